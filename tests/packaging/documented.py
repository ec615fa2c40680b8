"""The commands that documentation shows, so that tests run those and no others.

In Markdown a block of commands is fenced, and the comment before it says which test runs it; `shown` instead of `run` is for
what is no command. In a manual it stands between .nf and .fi, with the same words in a roff comment before it.

    <!-- run: exim -->          .\\" run: exim
"""

import re
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
PAGES = ['README.md', 'SECURITY.md', 'packaging/man/sealane.1.in', 'packaging/man/sealane.3.in',
         'packaging/man/sealane.conf.5.in', 'packaging/man/sealane-exim.7.in',
         'packaging/man/sealane-opensmtpd.7.in']
# Label -> the test that runs its blocks, which must name it.
RUN_BY = {
    'try': 'Makefile',
    'build': 'tests/packaging/prefix',
    'packages': 'Makefile',
    'exim': 'tests/packaging/mail',
    'ask': 'tests/packaging/mail',
    'exempt': 'tests/packaging/mail',
    'back': 'tests/packaging/mail',
    'no-systemd': 'tests/packaging/mail',
    'opensmtpd': 'tests/packaging/opensmtpd',
    'opensmtpd-back': 'tests/packaging/opensmtpd',
    'opensmtpd-again': 'tests/packaging/opensmtpd',
}


@dataclass
class Block:
    page: str
    line: int
    kind: str   # run, shown, or empty: nothing is said
    label: str  # or why it is only shown
    text: str


_MARK = re.compile(r'(run|shown): (.*)')


def blocks(page):
    text = (SOURCE / page).read_text()
    return list(_markdown(page, text) if page.endswith('.md') else _manual(page, text))


def commands(page, label):
    """The text of all blocks of the label, in order."""
    found = [block.text for block in blocks(page) if block.kind == 'run' and block.label == label]
    if not found:
        raise LookupError(f'{page} has no block of commands "{label}"')
    return '\n'.join(found)


def _markdown(page, text):
    mark, inside, start, previous_blank = None, None, 0, True
    for number, line in enumerate(text.splitlines(), 1):
        if inside is not None:
            if line.startswith('```'):
                yield _block(page, start, mark, inside)
                mark, inside = None, None
            else:
                inside.append(line)
        elif match := re.fullmatch(r'<!-- (.*) -->', line):
            mark = match[1]
        elif line.startswith('```'):
            inside, start = [], number
        elif line.startswith('    ') and previous_blank and not mark:
            yield _block(page, number, None, [line])  # an indented block: nobody would find it
        elif line.strip():
            mark = None
        previous_blank = not line.strip()


def _manual(page, text):
    mark, inside, start = None, None, 0
    for number, line in enumerate(text.splitlines(), 1):
        if inside is not None:
            if line == '.fi':
                yield _block(page, start, mark, inside)
                mark, inside = None, None
            else:
                inside.append(_plain(line))
        elif line.startswith('.\\" '):
            mark = line[4:]
        elif line == '.nf':
            inside, start = [], number


def _plain(line):
    return line.strip().replace('\\-', '-').replace('\\&', '').replace('\\e', '\\')


def _block(page, line, mark, lines):
    match = _MARK.fullmatch(mark or '')
    kind, label = (match[1], match[2]) if match else ('', '')
    return Block(page, line, kind, label, '\n'.join(lines))
