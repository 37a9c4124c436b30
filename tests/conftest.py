"""Real human DNA and its difficulty, for all tests; a cache of their own."""

import os
import tempfile

# Before cmgems is imported: nothing of the user's cache is read or written. The processes of one
# `make test` share one, so that genomes, counts and vocabularies are made once.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="cmgems-tests-")
    os.environ["CMGEMS_CACHE"] = _cache.name
# The models of the tests are too small for two threads, which would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from helpers.paths import EXPERIMENTS
from hypothesis import settings

if "CMGEMS_FAULTS" not in os.environ:
    # The same examples in every run; `make test-faults` looks for others.
    settings.register_profile("fixed", derandomize=True)
    settings.load_profile("fixed")


# Files of few tests that take long: begun last, they would keep one process busy while others wait.
SLOW_FILES = (
    "test_extending.py",
    "test_ddp.py",
    "test_curriculum_ddp.py",
    "test_without_a_gpu.py",
    "test_sweep.py",
    "test_branches.py",
    "test_quickstart.py",
    "test_adjacent.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in SLOW_FILES)  # stable: each file stays whole


@pytest.fixture(scope="session")
def genome():
    """The sample: 4 Mb of human chromosome 20."""
    from cmgems.genome.cache import load_genome

    return load_genome("sample")


@pytest.fixture(scope="session")
def human_codes(genome):
    """Base codes (uint8) of 400 windows of 510 bases, spread over the sample."""
    import numpy as np
    import torch

    starts = np.linspace(0, len(genome.codes) - 510, 400).astype(int)
    return torch.from_numpy(np.stack([genome.codes[start : start + 510] for start in starts]))


@pytest.fixture(scope="session")
def human_ids(human_codes):
    """Their token ids (int32, k = 6), 505 each."""
    from cmgems.tokenization import OverlappingKmers

    return OverlappingKmers(6).encode(human_codes)


@pytest.fixture(scope="session")
def human_rank(genome):
    """The rank table (int32 [4096]) of the sample."""
    import torch

    from cmgems.difficulty.pmi import compute_pmi_table

    return torch.from_numpy(compute_pmi_table(genome, 6).rank)


@pytest.fixture(scope="session")
def tiny():
    """Overrides that make any pretraining experiment a matter of seconds."""
    return [
        "train.global_batch_size=4",
        "train.micro_batch_size=2",
        "train.log_every_n_steps=1",
        "train.accelerator=cpu",
        "train.figures=false",  # most of such a run's time
        "validation.every_n_steps=3",
        "validation.windows=8",
        "validation.final_windows=40",
        "optim.warmup_steps=2",
        "data.window_length=128",
        "model.hidden_size=32",
        "model.num_heads=2",
        "model.intermediate_size=64",
    ]


@pytest.fixture(scope="session")
def pretrained_run(tiny, tmp_path_factory):
    """The folder of a finished run of three steps (k = 6); to be read only."""
    from cmgems.pretraining import pretrain
    from cmgems.runs.experiment import load

    folder = tmp_path_factory.mktemp("pretrained") / "run"
    overrides = [*tiny, "train.max_steps=3", f"run.dir={folder}"]
    pretrain(load(EXPERIMENTS / "pretrain/random.yaml", overrides))
    return folder
