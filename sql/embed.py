#!/usr/bin/python3
"""embed.py MIGRATION.sql... OUT: writes the migrations as C++ raw strings, in order of their numbers."""
import pathlib
import sys

files = sorted(map(pathlib.Path, sys.argv[1:-1]), key=lambda p: p.name)
numbers = [int(p.name.split('_')[0]) for p in files]
if numbers != list(range(1, len(files) + 1)):
    sys.exit(f'migrations must be numbered 0001, 0002, ... without gap or duplicate: {numbers}')
with open(sys.argv[-1], 'w') as out:
    for path in files:
        out.write(f'R"sql({path.read_text()})sql",\n')
