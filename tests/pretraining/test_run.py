"""Whole runs on real DNA at a shrunken size: repeatable, resumable, refused where in use."""

import json
import signal

import lightning as L
import pytest
import torch
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn, scalars, weights

from cmgems.data_modules.windows import WindowStream
from cmgems.errors import RunFailed, RunStopped, UserError
from cmgems.pretraining import pretrain as pretrain_experiment
from cmgems.runs.experiment import load

CM_GEMS = EXPERIMENTS / "pretrain/cm_gems.yaml"
# Fourteen steps, a validation every third and at the end, and a rule that switches at the second.
FOURTEEN = [
    "train.max_steps=14",
    "curriculum.plateau.rule=paper",
    "curriculum.plateau.threshold=1e9",
    "model.dropout=0.1",
]


def pretrain(path, overrides, callbacks=()):
    return pretrain_experiment(load(path, overrides), callbacks)


@pytest.fixture(scope="module")
def tiny_run(tiny, tmp_path_factory):
    """An uninterrupted run, its overrides and its results."""
    overrides = [*tiny, *FOURTEEN]
    folder = tmp_path_factory.mktemp("runs") / "whole"
    results = pretrain(CM_GEMS, [*overrides, "train.figures=true", f"run.dir={folder}"])
    return folder, overrides, results


def test_results_say_what_happened(tiny_run):
    folder, _, results = tiny_run
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["switched_at"] == 6
    assert set(results["masked_fraction"]) == {"genemask", "global_pmi"}
    assert 3000 < results["initial"]["random"]["perplexity"] < 6000
    assert results["genome"]["bases"] == 4_000_000
    assert results["versions"]["torch"] == torch.__version__
    written = scalars(folder)
    for name in (
        "loss",
        "perplexity",
        "accuracy",
        "masked_fraction",
        "gradient_norm",
        "learning_rate",
    ):
        assert {step for step, n in written if n == f"train/{name}"} == set(range(1, 15))
    for mask in ("random", "random_wide", "own_masks"):
        steps = {step for step, n in written if n == f"validation_{mask}/perplexity"}
        assert steps == {0, 3, 6, 9, 12, 14}
    progress = [float(written[step, "train/progress"]) for step in range(1, 15)]
    assert progress == [0.0] * 6 + [1.0] * 8


def test_tensorboard_holds_the_same_scalars_and_plots(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, _ = tiny_run
    events = EventAccumulator(str(folder))
    events.Reload()
    written = scalars(folder)
    for tag in ("train/loss", "validation_random/perplexity"):
        wanted = [(step, float(v)) for (step, name), v in written.items() if name == tag]
        logged = [(event.step, event.value) for event in events.Scalars(tag)]
        assert logged == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]
    plots = {"curriculum/schedule", "pmi/rank_distribution", "pmi/extremes"}
    assert plots <= set(events.Tags()["images"])


def test_the_same_run_twice_is_the_same_bit_for_bit(tiny_run, tmp_path):
    folder, overrides, _ = tiny_run
    pretrain(CM_GEMS, [*overrides, f"run.dir={tmp_path / 'again'}"])
    assert_same_run(folder, tmp_path / "again")


def test_the_resolved_copy_repeats_the_run(tiny_run, tmp_path):
    folder, _, _ = tiny_run
    pretrain(folder / "config.yaml", [f"run.dir={tmp_path / 'copy'}"])
    assert_same_run(folder, tmp_path / "copy")


def test_another_seed_is_another_run(tiny_run, tmp_path):
    folder, overrides, _ = tiny_run
    pretrain(CM_GEMS, [*overrides, "seed=1", f"run.dir={tmp_path / 'other'}"])
    assert scalars(folder)[1, "train/loss"] != scalars(tmp_path / "other")[1, "train/loss"]


@pytest.mark.parametrize("step", [0, 2, 4, 5, 6, 8, 11, 12, 13])
def test_stopped_and_resumed_equals_not_stopped(step, tiny_run, tmp_path, monkeypatch):
    """In the easy stage, at validations, at the switch (step 6), after it, and at the end."""
    whole, overrides, results = tiny_run
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    interrupt_when_window_is_drawn(monkeypatch, number=4 * step + 1)
    with pytest.raises(RunStopped) as stopped:
        pretrain(CM_GEMS, overrides)
    assert stopped.value.signal_number == signal.SIGINT
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] <= step + 2
    resumed = pretrain(CM_GEMS, [*overrides, "run.resume=true"])
    assert_same_run(whole, tmp_path / "run")
    for name in ("initial", "final", "switched_at", "best_step", "tokens"):
        assert resumed[name] == results[name]


def test_resumed_from_the_last_validation_after_a_crash(tiny_run, tmp_path, monkeypatch):
    """Nothing is saved at a crash: the lines after the checkpoint are written again."""
    whole, overrides, _ = tiny_run
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    original = WindowStream.batch

    def broken(self, first, count, *micro_batch_index):
        if first >= 4 * 8:
            raise OSError("the disk is gone")
        return original(self, first, count, *micro_batch_index)

    monkeypatch.setattr(WindowStream, "batch", broken)
    with pytest.raises(RunFailed, match=r"/run: the disk is gone; run.resume=true goes on"):
        pretrain(CM_GEMS, overrides)
    monkeypatch.setattr(WindowStream, "batch", original)
    assert max(step for step, _ in scalars(tmp_path / "run")) > 6
    pretrain(CM_GEMS, [*overrides, "run.resume=true"])
    assert_same_run(whole, tmp_path / "run")


class StepCount(L.Callback):
    """A user's callback: it counts micro-batches, and what it has counted is saved."""

    def __init__(self):
        self.seen, self.loaded = 0, None

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen += 1

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = self.loaded = state["seen"]


def test_a_callback_of_the_users_is_called_and_goes_on_with_its_state(
    tiny_run, tmp_path, monkeypatch
):
    whole, overrides, _ = tiny_run
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    first, second = StepCount(), StepCount()
    interrupt_when_window_is_drawn(monkeypatch, number=4 * 4 + 1)
    with pytest.raises(RunStopped, match="at step 5"):
        pretrain(CM_GEMS, overrides, [first])
    # With the step that was saved: the callback is called before the saving.
    assert first.seen == 2 * 5
    pretrain(CM_GEMS, [*overrides, "run.resume=true"], [second])
    assert second.loaded == first.seen
    assert second.seen == 2 * 14
    assert_same_run(whole, tmp_path / "run")


def test_a_finished_run_is_not_run_again(tiny_run, capsys):
    folder, overrides, results = tiny_run
    before = (folder / "checkpoints/last.ckpt").stat().st_mtime_ns
    again = pretrain(CM_GEMS, [*overrides, f"run.dir={folder}", "run.resume=true"])
    assert again == results
    assert (folder / "checkpoints/last.ckpt").stat().st_mtime_ns == before
    assert "validation perplexity" in capsys.readouterr().out


def test_refuses_a_folder_that_holds_a_run(tiny_run):
    folder, overrides, _ = tiny_run
    with pytest.raises(UserError, match=r"run.dir: .*whole holds a finished run; wanted"):
        pretrain(CM_GEMS, [*overrides, f"run.dir={folder}"])


def test_refuses_to_resume_another_experiment(tiny_run, tmp_path, monkeypatch):
    _, overrides, _ = tiny_run
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    interrupt_when_window_is_drawn(monkeypatch, number=5)
    with pytest.raises(RunStopped):
        pretrain(CM_GEMS, overrides)
    with pytest.raises(
        UserError, match=r"optim.learning_rate: the run in .* has 0.003, found 0.01"
    ):
        pretrain(CM_GEMS, [*overrides, "optim.learning_rate=0.01", "run.resume=true"])


def test_refuses_a_damaged_checkpoint(tiny_run, tmp_path, monkeypatch):
    _, overrides, _ = tiny_run
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    interrupt_when_window_is_drawn(monkeypatch, number=20)
    with pytest.raises(RunStopped):
        pretrain(CM_GEMS, overrides)
    path = tmp_path / "run/checkpoints/last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # a flipped bit in a tensor loads silently
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last.ckpt: damaged: its sha256 is"):
        pretrain(CM_GEMS, [*overrides, "run.resume=true"])


def test_refuses_a_folder_in_use(tiny_run, tmp_path):
    import fcntl

    _, overrides, _ = tiny_run
    (tmp_path / "config.yaml").write_text((tiny_run[0] / "config.yaml").read_text())
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is in use by another process"):
            pretrain(CM_GEMS, [*overrides, f"run.dir={tmp_path}", "run.resume=true"])


def test_stops_before_a_gradient_that_is_not_finite(tiny, tmp_path, monkeypatch):
    import torch.nn.functional as F

    original, calls = F.cross_entropy, []

    def broken(*args, **kwargs):
        calls.append(1)
        loss = original(*args, **kwargs)
        return loss * float("nan") if loss.requires_grad and len(calls) > 25 else loss

    monkeypatch.setattr(F, "cross_entropy", broken)
    with pytest.raises(RunFailed, match="gradient is not finite"):
        pretrain(CM_GEMS, [*tiny, *FOURTEEN, f"run.dir={tmp_path / 'run'}"])
    assert all(w.isfinite().all() for w in weights(tmp_path / "run").values())


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("pretrain/*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_experiment_runs(path, tiny, tmp_path):
    results = pretrain(path, [*tiny, "train.max_steps=3", f"run.dir={tmp_path / 'run'}"])
    assert results["tokens"] > 0
    assert results["final"]["random"]["perplexity"] < 6000
