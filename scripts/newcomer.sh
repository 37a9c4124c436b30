#!/usr/bin/env bash
# What a newcomer does: clone, `make pretrain`, `make test`; in a folder that is removed again.
# With an empty home, so that no cache of an earlier run helps.
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
