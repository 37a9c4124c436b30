#!/usr/bin/env bash
# The evidence, from genome to report: does a PMI curriculum save steps? Its parts one after the other;
# run again after a stop, it resumes. Overrides go to the sweeps.
#   [TASKS=FOLDER] scripts/evidence.sh [FASTA...] [-- key=value ...]
# Without FASTA the store in runs/genome is used, which an earlier call has made. With TASKS, the
# folder of the published labelled files, models are scored on labelled tasks too (docs/tasks.md).
# PARTS names some of the sweeps alone. JOBS runs are computed at once. PAPER=1 runs part 2 at the
# authors' size, on a GPU, instead.
set -eo pipefail
cmgems=${CMGEMS:-cmgems}
runs=${RUNS:-runs}
tasks=${TASKS:-}
jobs=${JOBS:-2}
parts=${PARTS:-evidence_common_end evidence_hidden_bases evidence_bases}
[ -z "${PAPER:-}" ] || parts=paper
sources=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do sources+=("$1"); shift; done
[ $# -gt 0 ] && shift

if [ ! -e "$runs/genome" ]; then
  [ ${#sources[@]} -gt 0 ] || { echo "evidence: found no $runs/genome and no sequence files, wanted GENOME=\"chr20.fa chrX.fa\"" >&2; exit 2; }
  mkdir -p "$runs"
  "$cmgems" genome "${sources[@]}" --out "$runs/genome"
fi

frozen="prom-core,splice-40,gue/prom/prom_300_tata,gue/prom/prom_core_all,gue/tf/0,gue/tf/1,gue/tf/2,gue/mouse/0"

part() {  # SWEEP [key=value ...]; the last words are overrides of the sweep
  local name=$1 decay=()
  # 300 common steps after all of a run; elsewhere the last fifth of each budget
  [ "$name" != evidence_common_end ] || decay=(decay=300)
  "$cmgems" sweep "experiments/sweep/$name.yaml" "dir=$runs/$name" "set.data.genome=$runs/genome" \
    "jobs=$jobs" "${@:2}"
  "$cmgems" branch "$runs/$name"/*-seed? step=kept "${decay[@]}" masks=random_wide \
    "dir=$runs/$name-ends" "jobs=$jobs" validation.final_windows=4096
  local scores=()
  if [ -n "$tasks" ]; then
    # By the last checkpoints: the model of each budget, when its learning rate was 0.
    "$cmgems" evaluate experiments/finetune/probe.yaml "run.dir=$runs/scores/$name-probe" \
      "tasks.root=$tasks" "models=[$runs/$name-ends/*/checkpoints/last.ckpt]" \
      "tasks.names=[$frozen]" "few_shot.shots=[500]" few_shot.replicates=5
    scores=("$runs/scores/$name-probe")
  fi
  "$cmgems" compare "$runs/$name-ends" "${scores[@]}" "out=docs/results/$name"
  # Against spans as wide at random places: what a masking adds to its span.
  "$cmgems" compare "$runs/$name-ends" "${scores[@]}" baseline=random_wide \
    "out=docs/results/$name-random_wide"
}

for name in $parts; do part "$name" "$@"; done
