# Everything a user types. Each target sets up what it needs: only Python 3.11 to 3.13, make and a C
# library have to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs
PORT ?= 6006
ARGS ?=
GENOME ?=
TASKS ?=
PARTS ?=
JOBS ?=
SOAK ?= 3600
CHROMOSOMES ?=

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(MAKEFILE_LIST))

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## make .venv with everything that running needs

pretrain: $(VENV)/.installed  ## the first run: a curriculum on real human DNA, minutes on 2 cores
	$(BIN)/cmgems pretrain experiments/pretrain/quickstart.yaml $(ARGS)

sweep: $(VENV)/.installed  ## train with all maskings, three seeds each, on the sample genome: ARGS="jobs=2"
	$(BIN)/cmgems sweep experiments/sweep/maskings.yaml dir=$(RUNS)/maskings $(ARGS)

compare: $(VENV)/.installed  ## compare the runs of `make sweep`: tables and one HTML page
	$(BIN)/cmgems compare $(RUNS)/maskings

evidence: $(VENV)/.installed  ## does masking by PMI save steps? Sittings on 2 cores, resumable: GENOME="chr20.fa chrX.fa" TASKS=FOLDER PARTS=...
	RUNS=$(RUNS) TASKS=$(TASKS) PARTS="$(PARTS)" JOBS=$(JOBS) CMGEMS=$(BIN)/cmgems bash scripts/evidence.sh $(GENOME) -- $(ARGS)

paper: $(VENV)/.installed  ## its second part at the authors' size, on one GPU; takes GENOME, TASKS and JOBS too
	PAPER=1 RUNS=$(RUNS) TASKS=$(TASKS) JOBS=$(JOBS) CMGEMS=$(BIN)/cmgems bash scripts/evidence.sh $(GENOME) -- $(ARGS)

evaluate: $(VENV)/.installed  ## score runs/quickstart (or an untrained encoder) next to baselines, no download
	@test -f $(RUNS)/quickstart/results.json || \
	  echo "no finished run in $(RUNS)/quickstart (make pretrain makes it): an untrained encoder alone"
	for part in quickstart quickstart_splice; do \
	  $(BIN)/cmgems evaluate experiments/finetune/$$part.yaml \
	    $(if $(wildcard $(RUNS)/quickstart/results.json),models=$(RUNS)/quickstart) $(ARGS) || exit; \
	done

tensorboard: $(VENV)/.installed  ## show the runs at http://127.0.0.1:6006; PORT=6007 for another port
	$(BIN)/tensorboard --logdir $(RUNS) --host 127.0.0.1 --port $(PORT)

test: $(VENV)/.developer  ## run the tests, one process per core, with quick forms of the slower checks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.developer  ## check style, formatting, types, and that imports point downward
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=$$(bash scripts/package_tree.sh) $(BIN)/lint-imports
	$(BIN)/python -m mypy

docs: $(VENV)/.docs  ## build the documentation as a site, in build/site; a warning or a dead link fails
	bash scripts/package_tree.sh > /dev/null
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

format: $(VENV)/.developer  ## rewrite the files in the style that `make lint` checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(VENV)/.notebooks  ## run the notebooks of docs/notebooks as they are: minutes; ARGS=--write stores what they show
	$(BIN)/python scripts/notebooks.py $(ARGS)

newcomer:  ## the commands of README, quickstart and notebooks in a fresh clone, which is removed again
	bash scripts/newcomer.sh

test-faults: $(VENV)/.developer  ## try tens of thousands of damaged inputs; `make test` tries a tenth of them
	CMGEMS_FAULTS=20000 $(BIN)/python -m pytest tests/genome/test_faults.py tests/tasks/test_readers.py \
	  tests/training/test_ranks.py tests/genome/test_variant_files.py tests/inference/test_variants.py $(ARGS)

test-chromosomes: $(VENV)/.developer  ## 10,000 made variants and 1,000 intervals on whole chromosomes: CHROMOSOMES=FOLDER with FASTA files
	@ls "$(CHROMOSOMES)"/*.fa >/dev/null 2>&1 || { echo "CHROMOSOMES: wanted a folder with FASTA files, *.fa" >&2; exit 2; }
	CMGEMS_CHROMOSOMES=$(CHROMOSOMES) $(BIN)/python -m pytest tests/evaluation/test_bases_of_intervals.py \
	  tests/inference/test_variants.py::test_of_every_oddity_none_is_lost $(ARGS)

soak: $(VENV)/.developer  ## an hour of kills, signals and damaged files, resumable: SOAK=SECONDS
	$(BIN)/python benchmarks/soak.py --seconds $(SOAK) --folder $(RUNS)/soak $(ARGS)

test-slurm: $(VENV)/.developer  ## run sweeps on a real one-node Slurm that the test starts; as root, Debian's packages
	CMGEMS_SLURM=1 $(BIN)/python -m pytest tests/sweeps/test_slurm.py $(ARGS)

test-ray: $(VENV)/.developer  ## run sweeps on a Ray of two cores that the test starts; installs it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	CMGEMS_RAY=1 $(BIN)/python -m pytest tests/sweeps/test_ray.py $(ARGS)

build/triton: | $(VENV)/.developer
	$(BIN)/python -m pip install --quiet --no-deps --target $@ "triton>=3.6,<4"

test-gpu-path: $(VENV)/.developer build/triton  ## what a GPU would run, traced without one: families, strategies, kernels; gets Triton (1 GB)
	PYTHONPATH=$(CURDIR)/build/triton CMGEMS_GPU_PATH=1 $(BIN)/python -m pytest tests/gpu/test_without_a_gpu.py tests/training/test_compile.py $(ARGS)

bench-pmi: $(VENV)/.developer  ## genome and PMI against Biopython, KMC, Jellyfish: ARGS="chr20.fa"
	$(BIN)/python benchmarks/bench_pmi.py $(ARGS)

bench-masking: $(VENV)/.developer  ## tokens per second of each masking strategy, and its fraction of a step
	$(BIN)/python benchmarks/bench_masking.py $(ARGS)

bench-fewshot: $(VENV)/.developer  ## few-shot fine-tuning against a loop of Hugging Face Trainers
	$(BIN)/python benchmarks/bench_fewshot.py $(ARGS)

bench-scaling: $(VENV)/.developer  ## weak scaling over 1 and 2 processes, and its model for many GPUs
	$(BIN)/python benchmarks/bench_scaling.py $(ARGS)

test-scaling: $(VENV)/.developer  ## runs started by Lightning, by torchrun and as by srun; a run out of memory
	CMGEMS_LAUNCHERS=1 $(BIN)/python -m pytest tests/pretraining/test_ddp.py tests/pretraining/test_restarts.py tests/cost/test_plan.py $(ARGS)

bench-train: $(VENV)/.developer  ## our training step against Hugging Face's: ARGS="--only cpu-full"
	$(BIN)/python benchmarks/bench_train.py $(ARGS)

gpu: $(VENV)/.developer  ## is everything right on this GPU, and how fast; meant for 9 minutes: ARGS="--only speed"
	$(BIN)/python benchmarks/gpu_check.py $(ARGS)

gpu-rehearsal: $(VENV)/.developer  ## the same script on a CPU, at a shrunken size
	$(BIN)/python benchmarks/gpu_check.py --rehearse --out build/gpu_check $(ARGS)

roofline: $(VENV)/.developer  ## what bounds a step on a GPU, modelled without one: ARGS="--write" puts it into docs/scaling.md
	$(BIN)/python -W ignore benchmarks/roofline.py $(ARGS)

clean:  ## remove .venv and what was built; runs stay
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis

# torch is named with its exact version: an unpinned one would pull gigabytes of CUDA packages
# even where a CPU build is available.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) -V), wanted Python 3.11 to 3.13: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -e .
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

$(VENV)/.notebooks: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[notebooks]"
	@touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
