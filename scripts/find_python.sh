#!/bin/sh
# Prints the newest Python here that is of some version or newer: the one that is asked for, else one on PATH, else one
# of pyenv's. Fails with what to do where there is none.
#
#   scripts/find_python.sh 3.12 [PYTHON]
set -eu

least=$1
asked=${2:-python3}

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] < tuple(map(int, sys.argv[1].split("."))))' "$least" 2>/dev/null
}

for minor in 15 14 13 12 11; do
    set -- "$@" "python3.$minor"
done
shift $(($# - 5))
# pyenv may have versions that its shims on PATH do not lead to.
versions=${PYENV_ROOT:-$HOME/.pyenv}/versions
for minor in 15 14 13 12 11; do
    for python in "$versions/3.$minor".*/bin/python; do
        set -- "$@" "$python"
    done
done

for python in "$asked" "$@"; do
    if fits "$python"; then
        echo "$python"
        exit 0
    fi
done
echo "This needs Python $least or newer, and neither \"$asked\" nor any python3.x on PATH or in $versions is one." >&2
echo "Please install one, or name it, as in PYTHON=/opt/python$least/bin/python3." >&2
exit 1
