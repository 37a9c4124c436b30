#!/usr/bin/env bash
# The evidence, from genome to report: does a PMI curriculum save steps? Run again after a stop, it
# resumes. Overrides go to the sweep.
#   [TASKS=FOLDER] scripts/evidence.sh [FASTA...] [-- key=value ...]
# Without FASTA the store in runs/genome is used, which an earlier call has made. With TASKS, the
# folder of the published labelled files, models are scored on labelled tasks too (docs/tasks.md).
# PAPER=1 runs it at the authors' size, on a GPU, instead.
set -eo pipefail
cmgems=${CMGEMS:-cmgems}
runs=${RUNS:-runs}
tasks=${TASKS:-}
sources=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do sources+=("$1"); shift; done
[ $# -gt 0 ] && shift

if [ ! -e "$runs/genome" ]; then
  [ ${#sources[@]} -gt 0 ] || { echo "evidence: found no $runs/genome and no sequence files, wanted GENOME=\"chr20.fa chrX.fa\"" >&2; exit 2; }
  mkdir -p "$runs"
  "$cmgems" genome "${sources[@]}" --out "$runs/genome"
fi

frozen="prom-core,splice-40,gue/prom/prom_300_tata,gue/tf/0,gue/mouse/0"
probes=()
[ -z "$tasks" ] || probes=(set.probe.every_n_steps=1000 "set.probe.tasks=[$frozen]" "set.probe.root=$tasks" set.probe.shots=500)

pretrain() {  # SWEEP
  "$cmgems" sweep "experiments/sweep/$1.yaml" "dir=$runs/$1" "set.data.genome=$runs/genome" "${probes[@]}" "${@:2}"
}

evaluate() {  # SWEEP PROTOCOL key=value ...; the untrained encoder begins as the runs did
  "$cmgems" evaluate "experiments/finetune/$2.yaml" "run.dir=$runs/scores/$1-$2" \
    "tasks.root=$tasks" untrained.init=fast_start few_shot.replicates=1 "${@:3}"
}

scored=()
score() {  # SWEEP
  [ -n "$tasks" ] || return 0
  # Each run is scored by its last checkpoint: one budget for all.
  evaluate "$1" few_shot "models=[$runs/$1/*/checkpoints/last.ckpt]" "tasks.names=[prom-core]" \
    "few_shot.shots=[100]"
  scored=("$runs/scores/$1-few_shot")
  # The runs were probed on the same examples during training; this computes the baselines.
  evaluate "$1" probe "tasks.names=[$frozen]" "few_shot.shots=[500]"
}

first=evidence
[ -z "${PAPER:-}" ] || first=paper
pretrain "$first" "$@"
score "$first"
"$cmgems" compare "$runs/$first" "${scored[@]}" baseline=random "out=docs/results/$first"
# The authors' comparison: the curriculum against its parts, and in the other order.
parts=("$runs/$first"/{genemask,global_pmi,cm_gems,cm_gems_reversed}-seed?)
"$cmgems" compare "${parts[@]}" "${scored[@]}" baseline=genemask "out=docs/results/$first-curriculum"
[ "$first" = evidence ] || exit 0

probes=()
pretrain init_and_span "$@"
both=("$runs/init_and_span" "$runs"/evidence/random{,_wide}-seed?)
"$cmgems" compare "${both[@]}" baseline=random out=docs/results/init_and_span
"$cmgems" compare "${both[@]}" baseline=authors out=docs/results/authors
