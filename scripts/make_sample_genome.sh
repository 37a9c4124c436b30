#!/usr/bin/env bash
# Make the sample genome that is shipped with cmgems: GRCh37 20:44,000,001-48,000,000 as 2bit.
#
# The chromosome is taken from Debian's package vt-examples, which has it as the reference of
# the 1000 Genomes Project (human_g1k_v37, chromosome 20). Needs apt-get, dpkg, and a python3
# with NumPy. About 90 MB of disk while it runs.
#
# usage: scripts/make_sample_genome.sh [OUT.2bit]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=$(realpath -m "${1:-$here/src/cmgems/sample/GRCh37_20_44000001-48000000.2bit}")
chromosome_sum=dfdef7ba5bc75e03b78c921d764f5a1b3f698e11b30c8d5d2d0cee4f0dfcfc74

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as another user
cd "$work"
apt-cache show vt-examples >/dev/null 2>&1 || apt-get update -qq
apt-get download -q vt-examples
dpkg -x vt-examples_*.deb x
gzip -dc x/usr/share/doc/vt/examples/ref/20.fa.gz >chr20.fa
echo "$chromosome_sum  chr20.fa" | sha256sum --check --quiet

python3 - chr20.fa "$out.part" <<'PYTHON'
"""Write one region of a FASTA file as 2bit (genome.ucsc.edu/FAQ/FAQformat.html#format7)."""
import struct
import sys

import numpy as np

START, STOP, NAME = 44_000_000, 48_000_000, b"20:44000001-48000000"

with open(sys.argv[1], "rb") as handle:
    handle.readline()
    region = handle.read().replace(b"\n", b"").upper()[START:STOP]
assert len(region) == STOP - START and not region.strip(b"ACGT"), "wanted: 4 Mb of A, C, G, T"
digits = np.zeros(256, np.uint8)
digits[list(b"TCAG")] = range(4)
two = digits[np.frombuffer(region, np.uint8)].reshape(-1, 4)
packed = two[:, 0] << 6 | two[:, 1] << 4 | two[:, 2] << 2 | two[:, 3]
offset = 16 + 1 + len(NAME) + 4
with open(sys.argv[2], "wb") as handle:
    handle.write(struct.pack("<4I", 0x1A412743, 0, 1, 0))  # signature, version, sequences, 0
    handle.write(struct.pack("<B", len(NAME)) + NAME + struct.pack("<I", offset))
    handle.write(struct.pack("<4I", len(region), 0, 0, 0))  # bases, N blocks, mask blocks, 0
    handle.write(packed.tobytes())
PYTHON
mv "$out.part" "$out"
sha256sum "$out"
