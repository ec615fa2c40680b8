#!/usr/bin/python3
"""symbols.py LIBSEALANE: the library exports what symbols.txt lists, under the version of its map; sealane.h declares the
same. A symbol that goes away or a helper that slips out would each break a caller: programs link against this list."""

import re
import subprocess
import sys

import tree

VERSION = 'SEALANE_0'


def exported(nm_output):
    """{name: version} of `nm -D --defined-only`; the version's own absolute symbol is left out."""
    names = {}
    for line in nm_output.splitlines():
        kind, name = line.split()[-2:]
        if kind != 'A':
            bare, _, version = name.partition('@')
            names[bare] = version.lstrip('@')
    return names


def declared(header):
    return set(re.findall(r'^SEALANE_API [^;(]*?\b(sealane_\w+)\(', header, re.MULTILINE))


def complaints(listed, header, symbols):
    if listed != sorted(set(listed)):
        yield 'plugin/symbols.txt is not sorted, or names a symbol twice'
    wanted = set(listed)
    for names, where in ((declared(header), 'plugin/sealane.h'), (symbols.keys(), 'the library')):
        yield from (f'{name}: in plugin/symbols.txt, but not in {where}' for name in sorted(wanted - names))
        yield from (f'{name}: in {where}, but not in plugin/symbols.txt' for name in sorted(names - wanted))
    for name, version in sorted(symbols.items()):
        if version != VERSION:
            yield f'{name}: exported without the version {VERSION}'


def self_test():
    header = 'SEALANE_API int sealane_a(void);\nSEALANE_API const char* sealane_b(int x,\n  int y);\nint sealane_c(void);\n'
    symbols = exported('0000 A SEALANE_0\n0001 T sealane_a@@SEALANE_0\n0002 T sealane_b@@SEALANE_0\n')
    assert not list(complaints(['sealane_a', 'sealane_b'], header, symbols))
    assert len(list(complaints(['sealane_b', 'sealane_a'], header, symbols))) == 1
    assert len(list(complaints(['sealane_a'], header, symbols))) == 2
    assert len(list(complaints(['sealane_a', 'sealane_b', 'sealane_z'], header, symbols))) == 2
    assert len(list(complaints(['sealane_a', 'sealane_b'], header, {**symbols, '_ZSt4cout': ''}))) == 2


if __name__ == '__main__':
    self_test()
    nm = subprocess.run(['nm', '-D', '--defined-only', sys.argv[1]], check=True, capture_output=True, text=True)
    tree.end(list(complaints((tree.ROOT / 'plugin/symbols.txt').read_text().split(),
                             (tree.ROOT / 'plugin/sealane.h').read_text(), exported(nm.stdout))))
