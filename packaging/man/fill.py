#!/usr/bin/python3
"""fill.py PAGE.in OUT reasons.def keys.def: fills @REASONS@ and @KEYS@, so that a manual cannot differ from the code."""
import ast
import pathlib
import re
import sys


def entries(path, macro):
    """The arguments of each MACRO(...) of a .def file, as strings; adjacent string literals are joined."""
    text = pathlib.Path(path).read_text()
    text = re.sub(r'^\s*//.*$', '', text, flags=re.M)
    for body in re.findall(macro + r'\(((?:[^()"]|"(?:[^"\\]|\\.)*")*)\)', text):
        yield [value(part) for part in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', body)]


def value(argument):
    literals = re.findall(r'"(?:[^"\\]|\\.)*"', argument)
    return ''.join(map(ast.literal_eval, literals)) if literals else argument.strip()


def roff(text):
    return text.replace('\\', '\\e').replace('-', '\\-').replace('`', '').replace("'", '\\(cq')


def reasons(path):
    for _, token, rule, result, sentence, remedy in entries(path, 'SEALANE_REASON'):
        yield f'.TP\n.B {roff(token)}\n{roff(sentence[0].upper() + sentence[1:])}.'
        if remedy:
            yield roff(remedy[0].upper() + remedy[1:]) + '.'
        notes = [n for n in (f'RFC {rule[4:]}' if rule else '', f'reported as {result}' if result else '') if n]
        if notes:
            yield roff('(' + '; '.join(notes) + ')')


def keys(path):
    for key, default, meaning in entries(path, 'SEALANE_KEY'):
        yield f'.TP\n.B {roff(key)}\n{roff(meaning[0].upper() + meaning[1:])}.'
        yield f'Default: {roff(default)}.' if default else 'No default.'


def main():
    page, out, reasons_def, keys_def = sys.argv[1:]
    text = pathlib.Path(page).read_text()
    text = text.replace('@REASONS@', '\n'.join(reasons(reasons_def)))
    text = text.replace('@KEYS@', '\n'.join(keys(keys_def)))
    pathlib.Path(out).write_text(text)


if __name__ == '__main__':
    main()
