#!/usr/bin/env bash
# The evidence, from genome to report: does a PMI curriculum save steps? Run again after a stop, it
# goes on. Overrides go to both sweeps.
#   scripts/evidence.sh FASTA... [-- key=value ...]
# Without FASTA the store in runs/genome is used, which an earlier call has made.
set -euo pipefail
cmgems=${CMGEMS:-cmgems}
sources=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do sources+=("$1"); shift; done
[ $# -gt 0 ] && shift

runs=${RUNS:-runs}
if [ ! -e "$runs/genome" ]; then
  [ ${#sources[@]} -gt 0 ] || { echo "evidence: found no $runs/genome and no sequence files, wanted GENOME=\"chr20.fa chrX.fa\"" >&2; exit 2; }
  mkdir -p "$runs"
  "$cmgems" genome "${sources[@]}" --out "$runs/genome"
fi

for sweep in evidence init_and_span; do
  "$cmgems" sweep "experiments/sweep/$sweep.yaml" "dir=$runs/$sweep" "set.data.genome=$runs/genome" "$@"
done
baselines=(evidence=random init_and_span=fast_start-k)
for pair in "${baselines[@]}"; do
  "$cmgems" compare "$runs/${pair%%=*}" "baseline=${pair#*=}" "out=docs/results/${pair%%=*}"
done
