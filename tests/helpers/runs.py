"""What a finished run holds, whether two runs are the same, and signals in the middle of a step."""

import csv
import os
import signal

import torch

from cmgems.data_modules.windows import WindowStream


def scalars(folder):
    """{(step, name): value as written} of a run, without what depends on the clock."""
    with open(folder / "metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    return {
        (int(r["step"]), r["name"]): r["value"] for r in rows if not r["name"].startswith("speed/")
    }


def weights(folder, checkpoint_name="last"):
    checkpoint = torch.load(folder / f"checkpoints/{checkpoint_name}.ckpt", weights_only=True)
    return checkpoint["state_dict"]


def assert_same_run(a, b):
    """All scalars and all weights of two runs are equal, bit for bit."""
    assert scalars(a) == scalars(b)
    assert_same_weights(a, b)


def assert_same_weights(a, b):
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def interrupt_when_window_is_drawn(monkeypatch, number, signal_number=signal.SIGINT):
    """Send this process a signal in the middle of the step that draws this window."""
    original = WindowStream.batch

    def batch(self, first, count, *args):
        if first <= number < first + count:
            monkeypatch.setattr(WindowStream, "batch", original)
            os.kill(os.getpid(), signal_number)
        return original(self, first, count, *args)

    monkeypatch.setattr(WindowStream, "batch", batch)


def interrupt(monkeypatch, owner, name, when, signal_number=signal.SIGTERM):
    """Send a signal in the call of a method for which `when(*arguments)` holds, once."""
    original = getattr(owner, name)

    def method(self, *arguments):
        if when(*arguments):
            monkeypatch.setattr(owner, name, original)
            os.kill(os.getpid(), signal_number)
        return original(self, *arguments)

    monkeypatch.setattr(owner, name, method)
