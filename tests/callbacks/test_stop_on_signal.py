"""Signals at any moment of a run: the exit code of the signal, one line, and a saved state."""

import os
import signal

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt, interrupt_when_window_is_drawn

from cmgems.callbacks import FinalEvaluation
from cmgems.cli import main
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.runs.io import read_checkpoint
from cmgems.sweeps.scheduler import StopSignals
from cmgems.training.module import Pretraining
from cmgems.utils.signals import STOP_SIGNALS, let_the_next_kill, stop_signals_handled

NOTHING, SAVED = "stopped before the first step", "stopped at step {}, state saved"
MOMENTS = {
    "before the first validation": ((GenomeDataModule, "val_dataloader"), NOTHING),
    "in the first validation": ((Pretraining, "validation_step"), NOTHING),
    "before step 1": ((GenomeDataModule, "train_dataloader"), SAVED.format(1)),
    "after the last step": ((Pretraining, "on_fit_end"), SAVED.format(3)),
    "waiting for the references": ((FinalEvaluation, "_await_references"), SAVED.format(3)),
}


@pytest.fixture
def command(tiny, tmp_path):
    overrides = [*tiny, "train.max_steps=3", f"run.dir={tmp_path / 'run'}"]
    return ["pretrain", str(EXPERIMENTS / "pretrain/random.yaml"), *overrides]


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(autouse=True)
def without_nohup():
    """As in a terminal, also where it was `nohup` that started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_a_run_with_a_line(moment, command, tmp_path, monkeypatch, capsys):
    (owner, name), line = MOMENTS[moment]
    interrupt(monkeypatch, owner, name, lambda *_: True, signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    assert main(command) == 130
    assert last_line(capsys) == f"cmgems pretrain: {line}"
    assert signal.getsignal(signal.SIGINT) == before
    assert not (tmp_path / "run/results.json").exists()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_of_the_signals_saves(number, command, pretrained_run, tmp_path, monkeypatch, capsys):
    interrupt_when_window_is_drawn(monkeypatch, number=5, signal_number=number)
    assert main(command) == 128 + number
    assert last_line(capsys) == "cmgems pretrain: stopped at step 2, state saved"
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert read_checkpoint(last, "meta").content["global_step"] == 2
    if number == signal.SIGHUP:
        assert main([*command, "run.resume=true"]) == 0
        assert_same_run(tmp_path / "run", pretrained_run)


def test_nohup_is_respected_and_handlers_are_restored():
    received = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals_handled(lambda number, _: received.append(number)):
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
                os.kill(os.getpid(), number)
            assert received == [signal.SIGUSR1, signal.SIGTERM]
            let_the_next_kill()
            assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_does_not_kill_the_runs_of_a_sweep():
    """The kernel and the shell both send SIGHUP; a second Ctrl-C means it."""
    with StopSignals().caught() as signals:
        for number in (signal.SIGHUP, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert (signals.number, signals.count) == (signal.SIGHUP, 1)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.count == 2
