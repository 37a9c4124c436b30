#!/usr/bin/env bash
# Makes the package as an installed one looks, from links to the four folders that setup.cfg joins:
# linters follow folders on disk and do not know that mapping. Prints the folder that holds it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tree=$root/build/package
rm -rf "$tree"
mkdir -p "$tree/cmgems"
for part in "$root"/src/cmgems/*.py "$root"/src/cmgems/*/ "$root/callbacks" "$root/data_modules" "$root/experiments"; do
  case $part in *__pycache__*) continue ;; esac
  ln -s "${part%/}" "$tree/cmgems/"
done
echo "$tree"
