#!/usr/bin/python3
"""Every section of an RFC that is cited, as "RFC 8461 §3.3", "RFC 8461 3.3" or "RFC 8461 section 3.3", must exist:
rfc_sections.txt lists them. An RFC without a section ("RFC 1918") may always be named."""

import re

import tree

NUMBERS = r'[1-9][0-9]*(?:\.[0-9]+)*'
SECTION = rf'(?:[A-Z](?:\.[0-9]+)*|{NUMBERS})'
# What is no section: "RFC 5737 192.0.2.0/24".
END = r'(?![\w/]|\.\w)'
CITATION = re.compile(rf'\bRFC[ -]?([1-9][0-9]{{2,4}})(?![0-9])'
                      rf'(?:,? ?(?:§|[Ss]ections? |[Aa]ppendix )({SECTION}){END}| ({NUMBERS}){END})')
# "…, §10.2", "… and §2.2", "…; §3.1", "…–§3.3" go on with the same RFC.
MORE = re.compile(rf'(?:,|;| and| or|–|/)? ?§({SECTION}){END}')
LIST = 'tests/lint/rfc_sections.txt'


def read_list(text):
    known = {}
    for line in text.splitlines():
        if line and not line.startswith('#'):
            number, sections = line.removeprefix('RFC ').split(':')
            known[number] = set(sections.split())
    return known


def cited(text):
    """(line, RFC, section) of every citation."""
    for match in CITATION.finditer(text):
        line = text.count('\n', 0, match.start()) + 1
        yield line, match[1], match[2] or match[3]
        at = match.end()
        while more := MORE.match(text, at):
            yield line, match[1], more[1]
            at = more.end()


def complaints(files, known):
    for path, text in files:
        if path == LIST:
            continue
        for line, number, section in cited(text):
            if number not in known:
                yield f'{path}:{line}: RFC {number} is not in {LIST}: add it with the sections that are cited'
            elif section not in known[number]:
                yield f'{path}:{line}: RFC {number} has no section {section} (or {LIST} does not know it)'


def self_test():
    known = read_list('# comment\nRFC 8461: 3 3.1 3.3 10.2\nRFC 4034: B\n')
    mark = '§'  # spelled apart, so that these lines are not citations themselves
    rfc = 'RFC '
    good = [f'{rfc}8461 {mark}3.3', f'{rfc}8461 3.3: a', f'{rfc}8461 section 3.1).', f'{rfc}8461 {mark}3.3, {mark}10.2',
            f'{rfc}1918', f'{rfc}5737 192.0.2.0/24', f'({rfc}8461)', f'{rfc}4034 appendix B', f'{rfc}8461\'s own']
    for text in good:
        assert not list(complaints([('file', text)], known)), text
    bad = [f'{rfc}8461 {mark}3.9', f'{rfc}8461 3.9]', f'{rfc}8461 {mark}3.3, {mark}10.9', f'{rfc}8461 section 9.',
           f'{rfc}9999 {mark}1', f'{rfc}8461 {mark}3.3 and {mark}77', f'x\n{rfc}8461, {mark}3.3.1.']
    for text in bad:
        assert len(list(complaints([('file', text)], known))) == 1, text


if __name__ == '__main__':
    self_test()
    sections = read_list((tree.ROOT / LIST).read_text())
    assert all(sections.values()) and len(sections) > 10
    tree.end(list(complaints(tree.files(), sections)))
