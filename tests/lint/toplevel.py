#!/usr/bin/python3
"""The top level is fixed and closed, and no file names the machine that it was written on.

A new folder or file at the top needs a place in this list, and so a reason why none of the existing folders will do.
"""

import re
import tempfile
import pathlib

import tree

FOLDERS = {'core', 'plugin', 'shims', 'sql', 'tests', 'packaging', '.ci'}
FILES = {'Makefile', 'meson.build', 'meson_options.txt', 'README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'LICENSE',
         'SECURITY.md', '.clang-format', '.clang-tidy', '.editorconfig', '.gitignore'}
# Not of the source: .git is a file in a work tree of git's.
IGNORED = {'build', '.git'}
# What stands at the root of any Unix system. A tree that is kept elsewhere tells of a machine by its first folder.
COMMON = {'bin', 'boot', 'dev', 'etc', 'home', 'lib', 'lib64', 'media', 'mnt', 'opt', 'proc', 'root', 'run', 'sbin', 'srv',
          'sys', 'tmp', 'usr', 'var'}


def layout_complaints(root):
    for path in sorted(root.iterdir()):
        if path.name in IGNORED:
            continue
        allowed = FOLDERS if path.is_dir() else FILES
        if path.name not in allowed:
            kind = 'folder' if path.is_dir() else 'file'
            yield f'{path.name}: a new {kind} at the top level (tests/lint/toplevel.py says which there may be)'


def machine_paths(root):
    """A pattern of paths that tell of a machine: somebody's home, this tree, or the folder at the root that holds it."""
    paths = ['/home/[A-Za-z0-9_-]+/']
    first = root.parts[1] if len(root.parts) > 1 else ''
    paths.append(re.escape(str(root)) + r'(?![\w-])')
    if first and first not in COMMON:
        paths.append('/' + re.escape(first) + r'(?![\w-])')
    return re.compile(r'(?<![\w.\-/}])(?:' + '|'.join(paths) + ')')


def path_complaints(files, pattern):
    for path, text in files:
        for match in pattern.finditer(text):
            line = text.count('\n', 0, match.start()) + 1
            yield f'{path}:{line}: {match[0]} is a path of one machine'


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ('core', 'build', '.git'):
            (root / name).mkdir()
        (root / 'README.md').touch()
        assert not list(layout_complaints(root))
        (root / 'util').mkdir()
        (root / 'notes.txt').touch()
        (root / 'LICENSE').mkdir()
        assert len(list(layout_complaints(root))) == 3
    pattern = machine_paths(pathlib.Path('/plot/joe/tree'))
    home = '/'.join(['', 'home', 'joe', 'tree'])
    for text in ('see /plot/joe/tree/x', '"/plot"', 'a\n/plot/b', home):
        assert len(list(path_complaints([('file', text)], pattern))) == 1, text
    for text in ('/plotter', 'a/plot/b', '/usr/share/plot', '/tmp/x', '${X}/plot'):
        assert not list(path_complaints([('file', text)], pattern)), text
    # A fresh clone below /tmp must not forbid /tmp.
    assert not list(path_complaints([('file', '/tmp/x')], machine_paths(pathlib.Path('/tmp/clone'))))


if __name__ == '__main__':
    self_test()
    tree.end(list(layout_complaints(tree.ROOT)) + list(path_complaints(tree.files(), machine_paths(tree.ROOT))))
