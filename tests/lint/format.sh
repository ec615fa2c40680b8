#!/bin/sh
# All sources are as .clang-format lays them out. Other versions than 14 lay them out otherwise, so without it this is
# skipped (77), as it is where there is none at all.
set -eu
cd "$(dirname "$0")/../.."
format=$(command -v clang-format-14) || { echo "no clang-format-14"; exit 77; }

# It must be able to fail: two statements on a line are not how we write.
if echo 'int  a;int b;' | "$format" --dry-run -Werror --assume-filename=core/x.cc 2>/dev/null; then
    echo "$format finds fault with nothing"
    exit 1
fi
find core plugin shims tests -name '*.cc' -o -name '*.h' -o -name '*.c' | sort | xargs "$format" --dry-run -Werror
