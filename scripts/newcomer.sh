#!/usr/bin/env bash
# Does what a newcomer does, in a fresh clone with an empty home, which are removed again: the
# commands of the README and the quickstart (scripts/newcomer.py), the notebooks, the tests.
set -euo pipefail
root=$(git -C "$(dirname "$0")/.." rev-parse --show-toplevel)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet "$root" "$folder/cmgems"
cd "$folder/cmgems"
mkdir "$folder/home"
export HOME=$folder/home XDG_CACHE_HOME=$folder/home/.cache PATH=$PWD/.venv/bin:$PATH
unset CMGEMS_CACHE CMGEMS_MIRROR
time make install
python scripts/newcomer.py
make notebooks
make test
