"""Protective lines and the tests that name them. In Exim's fragments a comment, in the object's source likewise:

    # guard: TEST, TEST                  each of these tests must turn red when what follows is deleted
    # guard LABEL: TEST; with LABEL      … when what follows is deleted together with the lines of that label
    # guard: TEST; instead: TEXT         … when it is replaced by TEXT, because without it there is no configuration

What follows: the next option with its continuation lines; of a heading (`name:`) the whole router or transport; of an
`.ifdef` all to its `.endif`; in C++ the next statement. TEST is a case of cases.toml or a scenario; `fork/TEST` is that
test with the back end fork."""

import re
import textwrap
from dataclasses import dataclass, field

_COMMENT = re.compile(r'^\s*(?:#|//) guard(?: ([a-z-]+))?: (.*)$')
_CONTINUED = re.compile(r'^\s*(?:#|//)( {2,}.*)$')


@dataclass
class Guard:
    file: str     # relative to the folder that was read
    line: int     # of the comment, from 1
    first: int    # of what it guards, from 0
    last: int     # behind it
    label: str
    tests: list
    partners: list = field(default_factory=list)
    instead: str = None

    @property
    def place(self):
        return f'{self.file}:{self.line}'


def read(folder, pattern='**/*'):
    guards = []
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            guards += _of_file(str(path.relative_to(folder)), path.read_text().split('\n'), path.suffix == '.cc')
    return guards


def _of_file(name, lines, source):
    for number, line in enumerate(lines):
        match = _COMMENT.match(line)
        if not match:
            continue
        text, next_line = match[2], number + 1
        while more := _CONTINUED.match(lines[next_line]):
            text, next_line = f'{text} {more[1].strip()}', next_line + 1
        tests, *parts = [part.strip() for part in text.split(';')]
        guard = Guard(name, number + 1, 0, 0, match[1] or '', [one.strip() for one in tests.split(',')])
        for part in parts:
            word, _, rest = part.partition(' ')
            if word == 'with':
                guard.partners = [one.strip() for one in rest.split(',')]
            elif word == 'instead:':
                guard.instead = rest
            else:
                raise SystemExit(f'{name}:{number + 1}: what is `{part}`?')
        guard.first, guard.last = _extent(lines, next_line, source)
        yield guard


def _extent(lines, first, source):
    comment = '//' if source else '#'
    while not lines[first].strip() or lines[first].lstrip().startswith(comment):
        first += 1
    last = first + 1
    if source:
        while not lines[last - 1].rstrip().endswith((';', '}')):
            last += 1
    elif lines[first].startswith('.if'):
        while lines[last - 1] != '.endif':
            last += 1
    elif re.match(r'[a-z_]+:$', lines[first]):
        while last < len(lines) and not re.match(r'([a-z_]+:|\.(endif|else|if).*)$', lines[last]):
            last += 1
    else:
        while lines[last - 1].rstrip().endswith('\\'):
            last += 1
    return first, last


def all_without(guard, guards):
    """The guards whose lines go when this one is tested."""
    partners = [one for one in guards if one.label in guard.partners and one.label]
    if missing := set(guard.partners) - {one.label for one in partners}:
        raise SystemExit(f'{guard.place}: no guard is labelled {", ".join(sorted(missing))}')
    return [guard, *partners]


def mutated(text, guards):
    """The text of one file without the lines of these guards, which are all of this file."""
    lines = text.split('\n')
    for guard in sorted(guards, key=lambda one: one.first, reverse=True):
        indent = re.match(r'\s*', lines[guard.first])[0]
        put = textwrap.indent(guard.instead, indent).split('\n') if guard.instead else []
        lines[guard.first:guard.last] = put
    return '\n'.join(lines)
