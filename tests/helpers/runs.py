"""What a finished run holds, whether two are the same, and a signal amid a step."""

import csv
import os
import signal

import torch

from cmgems.data_modules.windows import WindowStream


def scalars(folder):
    """{(step, name): value as written}, without what depends on the clock."""
    with open(folder / "metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    return {
        (int(r["step"]), r["name"]): r["value"] for r in rows if not r["name"].startswith("speed/")
    }


def weights(folder, which="last"):
    checkpoint = torch.load(folder / f"checkpoints/{which}.ckpt", weights_only=True)
    return checkpoint["state_dict"]


def assert_same_run(one, other):
    assert scalars(one) == scalars(other)
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


def interrupt_when_window_is_drawn(monkeypatch, number, which=signal.SIGINT):
    """Send this process a signal in the middle of the step that draws this window."""
    original = WindowStream.batch

    def batch(self, first, count, *hand):
        if first <= number < first + count:
            monkeypatch.setattr(WindowStream, "batch", original)
            os.kill(os.getpid(), which)
        return original(self, first, count, *hand)

    monkeypatch.setattr(WindowStream, "batch", batch)
