#!/usr/bin/python3
"""exim_object.py SEALANE-EXIM.SO: the object that Exim loads needs libc alone and exports its entry points alone.

Every delivery process of Exim maps it: a library more would cost milliseconds and megabytes in each. And a symbol more
could be replaced by one of Exim's own of the same name."""

import re
import subprocess
import sys

import tree

ALLOWED = re.compile(r'libc\.so\.6|ld-linux[\w.-]*\.so\.\d+')


def complaints(readelf_output, nm_output):
    needed = re.findall(r'\(NEEDED\).*\[(.+)\]', readelf_output)
    if 'libc.so.6' not in needed:
        yield 'it does not name libc.so.6 as needed: is this the object?'
    for library in needed:
        if not ALLOWED.fullmatch(library):
            yield f'it needs {library}'
    names = [line.split()[-1] for line in nm_output.splitlines()]
    if not names:
        yield 'it exports nothing'
    for name in names:
        if not name.startswith('sealane_exim_'):
            yield f'it exports {name}'


def self_test():
    libc = ' 0x1 (NEEDED)  Shared library: [libc.so.6]\n 0x1 (NEEDED)  Shared library: [ld-linux-x86-64.so.2]\n'
    good = '0001 T sealane_exim_route\n'
    assert not list(complaints(libc, good))
    assert len(list(complaints(libc + ' 0x1 (NEEDED)  Shared library: [libstdc++.so.6]\n', good))) == 1
    assert len(list(complaints(libc, good + '0002 T _Znwm\n'))) == 1
    assert len(list(complaints(libc, ''))) == 1
    assert len(list(complaints('', good))) == 1


if __name__ == '__main__':
    self_test()
    outputs = [subprocess.run([*command, sys.argv[1]], check=True, capture_output=True, text=True).stdout
               for command in (['readelf', '-dW'], ['nm', '-D', '--defined-only'])]
    tree.end([f'{sys.argv[1]}: {complaint}' for complaint in complaints(*outputs)])
