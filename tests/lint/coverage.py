#!/usr/bin/python3
"""What proves each MUST and SHOULD of the two RFCs that this software exists for. Reads requirements.txt, refuses an
entry without a proof, a proof that does not exist and a section that no source file cites; with a file name as its
argument it writes the page there (`make coverage`)."""

import re
import sys
import tomllib

import tree
from citations import cited

LIST = 'tests/lint/requirements.txt'
HEAD = re.compile(r'RFC (\d+) §([\d.]+) ([A-Z]+(?: NOT)?(?:, [A-Z]+(?: NOT)?)*) "(.*)"$')
WORDS = ('MUST', 'MUST NOT', 'SHOULD', 'SHOULD NOT', 'SHALL')
# The lists are complete as far as these; an entry that is lost is missed.
LEAST = {('7672', 'MUST'): 40, ('8461', 'MUST'): 15}
KINDS = {
    'golden': 'tests/golden/decisions.txt',
    'unit': 'tests/unit',
    'lab': 'tests/lab/cases.toml',
    'fault': 'tests/lab/faults.py',
    'check': 'tests/lab/checks.py',
}
PART = ('golden', 'unit')  # a part of the title is enough, if no other title has it


def titles(files):
    """kind -> the names of all tests of that kind."""
    found = {kind: set() for kind in KINDS}
    for path, text in files:
        if path == KINDS['golden']:
            found['golden'] |= set(re.findall(r'^== (.+)$', text, re.MULTILINE))
        elif path.startswith('tests/unit/'):
            for title in re.findall(r'TEST_CASE\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', text):
                found['unit'].add(re.sub(r'"\s*"', '', title.strip())[1:-1].replace('\\"', '"'))
        elif path == KINDS['lab']:
            found['lab'] = set(tomllib.loads(text))
        elif path == KINDS['fault']:
            found['fault'] |= {name.replace('_', '-') for name in re.findall(r'^@scenario.*\n(?:@.*\n)*def (\w+)', text, re.MULTILINE)}
        elif path == KINDS['check']:
            found['check'] |= set(re.findall(r"^    '([\w.-]+)': \(\d+, ", text, re.MULTILINE))
            found['check'] |= set(re.findall(r"Check\('check', '([\w.-]+)'", text))
    return found


def read(text):
    """[(line, rfc, section, word, quote, [(line, kind, name)])]"""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith('#'):
            continue
        if match := HEAD.match(line):
            entries.append((number, *match.groups(), []))
        elif line.startswith('  ') and entries:
            kind, _, name = line.strip().partition(' ')
            entries[-1][-1].append((number, kind, name))
        else:
            entries.append((number, '', '', '', line, []))
    return entries


def complaints(entries, tests, sections):
    for number, rfc, section, word, quote, proofs in entries:
        if not rfc:
            yield f'{LIST}:{number}: not an entry: {quote}'
            continue
        if set(word.split(', ')) - set(WORDS):
            yield f'{LIST}:{number}: unknown word {word}'
        kinds = {kind for _, kind, _ in proofs}
        if not kinds:
            yield f'{LIST}:{number}: RFC {rfc} §{section} has no proof: {quote}'
        if 'theirs' not in kinds and not any(s == section or s.startswith(section + '.') for s in sections.get(rfc, ())):
            yield f'{LIST}:{number}: no source file cites RFC {rfc} §{section}'
        for at, kind, name in proofs:
            if kind == 'theirs':
                continue
            if kind not in tests:
                yield f'{LIST}:{at}: unknown kind of test: {kind}'
            elif kind in PART:
                found = [title for title in tests[kind] if name in title]
                if len(found) != 1 and name not in tests[kind]:
                    yield f'{LIST}:{at}: {len(found)} {kind} tests are named {name}'
            elif name not in tests[kind]:
                yield f'{LIST}:{at}: there is no {kind} test {name}'
    for (rfc, word), least in LEAST.items():
        if sum(e[1] == rfc and word in e[3] for e in entries) < least:
            yield f'{LIST}: fewer than {least} times {word} of RFC {rfc}'


def page(entries, sources):
    """Markdown: for each section the code that cites it, and for each requirement its tests."""
    out = ['# What proves each MUST and SHOULD', '', 'Made by `make coverage` from tests/lint/requirements.txt and the',
           'citations of the sources.', '']
    last = None
    for _, rfc, section, word, quote, proofs in entries:
        if (rfc, section) != last:
            code = ', '.join(sorted(sources.get((rfc, section), ()))) or 'none'
            out += ['', f'## RFC {rfc} §{section}', '', f'Cited by: {code}', '']
            last = (rfc, section)
        out.append(f'- **{word}** {quote}')
        out += [f'  - {kind}: {name}' for _, kind, name in proofs]
    return '\n'.join(out) + '\n'


def self_test(entries, tests, sections):
    def seen(entry, word):
        assert any(word in c for c in complaints([*entries, entry], tests, sections)), word
    seen((1, '7672', '2.2', 'MUST', 'q', []), 'has no proof')
    seen((1, '7672', '2.2', 'MUST', 'q', [(1, 'lab', 'no-such')]), 'there is no lab test')
    seen((1, '7672', '2.2', 'MUST', 'q', [(1, 'golden', 'RFC 7672')]), 'golden tests are named')
    seen((1, '7672', '9', 'MUST', 'q', [(1, 'lab', 'dane-ee')]), 'no source file cites')
    assert any('fewer than' in c for c in complaints([], tests, sections))


if __name__ == '__main__':
    files = list(tree.files())
    entries = read((tree.ROOT / LIST).read_text())
    tests = titles(files)
    assert all(len(names) > 5 for names in tests.values()), {kind: len(names) for kind, names in tests.items()}
    by_section, sections = {}, {}
    for path, text in files:
        if re.match(r'(core|plugin|shims)/', path):
            for _, rfc, section in cited(text):
                by_section.setdefault((rfc, section), set()).add(path)
                sections.setdefault(rfc, set()).add(section)
    self_test(entries, tests, sections)
    if len(sys.argv) > 1:
        open(sys.argv[1], 'w').write(page(entries, by_section))
    tree.end(list(complaints(entries, tests, sections)))
