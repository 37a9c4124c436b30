"""A run resumed on another number of ranks: the steps and the validations of one that went on."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cmgems.data_modules.pretraining import ResumableSampler
from cmgems.runs.io import SafeCheckpoints
from cmgems.training.module import Pretraining

STEPS, EVERY, MICRO_BATCHES = 12, 3, 4  # of a run, between validations, per step over all ranks


class Numbers(Dataset):
    def __getitem__(self, number):
        return torch.tensor(float(number))


class Stepper(L.LightningModule):
    """Takes the micro-batches of one rank and writes down its steps and validations."""

    on_load_checkpoint = Pretraining.on_load_checkpoint

    def __init__(self, ranks, path, stop_at=None):
        super().__init__()
        self.ranks, self.path, self.stop_at = ranks, path, stop_at
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = {}, []

    def training_step(self, batch, batch_idx):
        assert int(batch) == batch_idx  # from which random draws and signals are told
        self.seen.setdefault(self.global_step, []).append(int(batch))
        return self.weight * 0

    def on_train_batch_end(self, outputs, batch, batch_idx):
        """As `StopOnSignal`: between two validations."""
        ends = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        if ends and self.global_step == self.stop_at and self.global_step % EVERY:
            self.stop()

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_end(self):
        self.validated.append(self.global_step)
        if self.global_step == self.stop_at:
            self.stop()

    def stop(self):
        self.trainer.save_checkpoint(self.path)
        raise KeyError("stopped")

    def train_dataloader(self):
        each = MICRO_BATCHES // self.ranks
        sampler = ResumableSampler(self.trainer.global_step * each, STEPS * each)
        return DataLoader(Numbers(), batch_size=None, sampler=sampler)

    def val_dataloader(self):
        return DataLoader([torch.zeros(())], batch_size=None)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(module, resume=None):
    each = MICRO_BATCHES // module.ranks
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        max_epochs=-1,
        accumulate_grad_batches=each,
        val_check_interval=EVERY * each,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        plugins=[SafeCheckpoints({})],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, ckpt_path=resume, weights_only=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop_at", [3, 4, 9, 10])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 1), (1, 4), (2, 2)])
def test_steps_and_validations_are_those_of_a_run_that_went_on(before, after, stop_at, tmp_path):
    path = tmp_path / "last.ckpt"
    first = Stepper(before, path, stop_at)
    with pytest.raises(KeyError, match="stopped"):
        fit(first)
    second = Stepper(after, path)
    fit(second, resume=path)
    for module, steps in ((first, range(stop_at)), (second, range(stop_at, STEPS))):
        each = MICRO_BATCHES // module.ranks
        assert module.seen == {n: list(range(n * each, (n + 1) * each)) for n in steps}
    assert first.validated + second.validated == [3, 6, 9, 12]
