"""The files of the source tree, for the lints."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What building and running leave behind; .git is not ours to read. The inputs of tests/fuzz are nobody's words.
IGNORED = {'build', '.git', '__pycache__', 'corpus'}


def files(root=ROOT):
    """(path relative to the root, text) of every file, sorted; octets that are not UTF-8 are replaced."""
    pending, found = [root], []
    while pending:
        for path in pending.pop().iterdir():
            if path.name in IGNORED:
                continue
            if path.is_dir() and not path.is_symlink():
                pending.append(path)
            elif path.is_file():
                found.append(path)
    for path in sorted(found):
        yield path.relative_to(root).as_posix(), path.read_text(errors='replace')


def end(complaints):
    """Prints the complaints and ends the program: 0 if there are none."""
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    sys.exit(1 if complaints else 0)
