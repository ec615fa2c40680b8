#!/usr/bin/python3
"""fill.py PAGE.in OUT VERSION reasons.def keys.def: fills @VERSION@, @REASONS@ and @KEYS@, so that a manual cannot differ
from the code."""
import ast
import pathlib
import re
import sys


def entries(path, macro):
    """The arguments of each MACRO(...) of a .def file; adjacent string literals are joined."""
    text = re.sub(r'^\s*//.*$', '', pathlib.Path(path).read_text(), flags=re.M)
    for begin in re.finditer(rf'^{macro}\(', text, flags=re.M):
        arguments, depth = [''], 0
        for part in re.findall(r'"(?:[^"\\]|\\.)*"|[^"]', text[begin.end():]):
            if part == ')' and depth == 0:
                break
            depth += (part == '(') - (part == ')')
            if part == ',' and depth == 0:
                arguments.append('')
            else:
                arguments[-1] += part
        yield [value(argument) for argument in arguments]


def value(argument):
    literals = re.findall(r'"(?:[^"\\]|\\.)*"', argument)
    return ''.join(map(ast.literal_eval, literals)) if argument.lstrip().startswith('"') else argument.strip()


def roff(text):
    text = text.replace('\\', '\\e').replace('-', '\\-').replace("'", '\\(cq').replace('§', '\\(sc')
    return re.sub('`([^`]*)`', r'\\fB\1\\fR', text)


def reasons(path):
    for _, token, rule, result, sentence, remedy in entries(path, 'SEALANE_REASON'):
        yield f'.TP\n.B {roff(token)}\n{roff(sentence[0].upper() + sentence[1:])}.'
        if remedy:
            yield roff(remedy[0].upper() + remedy[1:]) + '.'
        notes = [n for n in (f'RFC {rule[4:]}' if rule else '', f'reported as {result}' if result else '') if n]
        if notes:
            yield roff('(' + '; '.join(notes) + ')')


def keys(path):
    for key, default, _, meaning in entries(path, 'SEALANE_KEY'):
        yield f'.TP\n.B {roff(key)}\n{roff(meaning)}.'
        if default:
            yield f'Default: \\fI{roff(default)}\\fR.'


def main():
    page, out, version, reasons_def, keys_def = sys.argv[1:]
    text = pathlib.Path(page).read_text().replace('@VERSION@', version)
    text = text.replace('@REASONS@', '\n'.join(reasons(reasons_def)))
    text = text.replace('@KEYS@', '\n'.join(keys(keys_def)))
    pathlib.Path(out).write_text(text)


if __name__ == '__main__':
    main()
