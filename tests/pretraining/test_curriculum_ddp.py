"""Two ranks that would decide differently: they switch together, and share what was learned."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.config.schema import Plateau
from cmgems.curriculum.plateau import is_plateau

# After each validation, and before the curriculum reads the loss, each rank gets a loss of its own:
# that of rank 0 is flat from the second validation on, that of rank 1 keeps falling.
SCRIPT = """
import json, sys
import lightning as L
from cmgems.runs.experiment import load
from cmgems.pretraining import pretrain

OWN = {0: [6.0, 5.0, 5.0, 5.0], 1: [6.0, 5.0, 4.0, 3.0]}

class Meddler(L.Callback):
    def __init__(self):
        self.validations = 0

    def setup(self, trainer, module, stage):
        trainer.callbacks = [self, *(other for other in trainer.callbacks if other is not self)]

    def on_validation_end(self, trainer, module):
        if trainer.state.fn == "fit":
            loss = OWN[trainer.global_rank][self.validations]
            self.validations += 1
            metrics = module.validated[module.strategy]
            module.validated[module.strategy] = metrics._replace(loss=loss)

class Witness(L.Callback):
    def __init__(self):
        self.strategies, self.ranks = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.strategies.append(module.strategy)
            self.ranks.append(module.masker.losses.rank_V.tolist())

    def on_train_end(self, trainer, module):
        seen = {"strategies": self.strategies, "ranks": self.ranks}
        with open(f"{sys.argv[2]}/rank{trainer.global_rank}.json", "w") as handle:
            json.dump(seen, handle)

pretrain(load(sys.argv[1], sys.argv[3:]), callbacks=[Meddler(), Witness()])
"""


@pytest.fixture(scope="module")
def ranks(tiny, tmp_path_factory, genome):
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "script.py").write_text(SCRIPT)
    overrides = [
        *tiny,
        "train.max_steps=12",
        "train.devices=2",
        "curriculum.strategies=[loss_adaptive,global_pmi]",
        "curriculum.plateau.rule=paper",
        "curriculum.plateau.threshold=1.0",
        f"run.dir={folder / 'run'}",
    ]
    command = [sys.executable, folder / "script.py", EXPERIMENTS / "pretrain/cm_gems.yaml", folder]
    done = subprocess.run(
        [*command, *overrides], env=os.environ, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_alone_they_would_disagree():
    rule = Plateau(rule="paper", threshold=1.0)
    assert is_plateau([6.0, 5.0, 5.0], rule, 8.0)
    assert not is_plateau([6.0, 5.0, 4.0], rule, 8.0)


def test_ranks_switch_together(ranks):
    """At the third validation (step 9), as rank 0 says."""
    wanted = ["loss_adaptive"] * 9 + ["global_pmi"] * 3
    assert ranks[0]["strategies"] == ranks[1]["strategies"] == wanted


def test_ranks_by_loss_are_the_same_on_all_ranks_and_move(ranks):
    assert ranks[0]["ranks"] == ranks[1]["ranks"]
    first, second, third = (ranks[0]["ranks"][step] for step in (0, 3, 6))
    assert first != second
    assert second != third
    assert sorted(third) == list(range(1, 4097))
