#!/usr/bin/env bash
# Does what a newcomer does: clone, `make pretrain`, `make test`; in a folder that is removed again.
# The cache is empty, so that no earlier run helps.
set -euo pipefail
root=$(git -C "$(dirname "$0")/.." rev-parse --show-toplevel)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet "$root" "$folder/cmgems"
cd "$folder/cmgems"
export XDG_CACHE_HOME=$folder/cache
time make install
time make pretrain
time make test
