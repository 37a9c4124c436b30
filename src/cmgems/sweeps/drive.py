"""The loop that starts runs, watches over them and stops them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm import tqdm

from cmgems.errors import SweepStopped
from cmgems.runs import RunFolder
from cmgems.sweeps.jobs import Ended, Jobs
from cmgems.sweeps.plan import Planned
from cmgems.sweeps.state import (
    State,
    forget_failure,
    note_failure,
    reason,
    state,
    steps_done,
)

LOOK_EVERY = 0.3  # seconds
# 0 without results: told to stop before it could, Lightning ends a run as if it were done.
STOP_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM, 0)
IN_USE = "is in use by another process"


class Signals:
    """Ctrl-C and SIGTERM, noted; `count` tells a second one."""

    def __init__(self) -> None:
        self.number, self.count = 0, 0

    @contextmanager
    def noted(self) -> Iterator["Signals"]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.number, self.count = number, self.count + 1


class Outcome(NamedTuple):
    run: Planned
    state: State
    reason: str  # of a failure


def drive(
    next_run: Callable[[], Planned | None],
    jobs: Jobs,
    over: Callable[[Outcome], None],
    bar: tqdm,
) -> None:
    """Compute runs until there are no more.

    Parameters
    ----------
    next_run : gives a run to begin or to go on with; None when there is none now
    jobs : where they are computed
    over : told of each run that has ended
    bar : over the steps of all runs

    Raises
    ------
    SweepStopped
        After a signal, when all runs are saved and have stopped.
    """
    elsewhere: list[Planned] = []  # in the hands of a process that an earlier sweep left behind
    done: dict[str, int] = {}
    with Signals().noted() as signals:
        exhausted = False
        while not exhausted or jobs.running or elsewhere:
            while not exhausted and not signals.count and jobs.room() > 0:
                run = next_run()
                if run is None:
                    exhausted = True
                elif _in_hand(run):
                    elsewhere.append(run)
                else:
                    _begin(run, jobs)
                    done[run.name] = steps_done(run.folder)
            for ended in jobs.ended():
                outcome = settle(ended)
                _show(bar, ended.run, done)
                if outcome is None:
                    elsewhere.append(ended.run)
                else:
                    over(outcome)
                    exhausted = False  # a search may have a next trial now
            for run in [run for run in elsewhere if not _in_hand(run)]:
                elsewhere.remove(run)
                if state(run.folder) is State.FINISHED:
                    over(Outcome(run, State.FINISHED, ""))
                elif not signals.count:
                    _begin(run, jobs)
            for run in jobs.running.values():
                _show(bar, run, done)
            if signals.count:
                _stop(jobs, signals)
            time.sleep(LOOK_EVERY)


def _begin(run: Planned, jobs: Jobs) -> None:
    forget_failure(run.folder)
    RunFolder(run.folder).write_config(run.experiment)
    jobs.start(run)


def _in_hand(run: Planned) -> bool:
    return RunFolder(run.folder).in_use()


def settle(ended: Ended) -> Outcome | None:
    """What became of a run whose process is over; None if another process has it."""
    run, found = ended.run, state(ended.run.folder)
    last = reason(run.folder, ended.code)
    if found is State.FINISHED or ended.code in STOP_CODES or last.startswith("stopped "):
        return Outcome(run, found, "")
    why = ended.word or last
    if IN_USE in why:
        return None
    note_failure(run.folder, why)
    return Outcome(run, State.FAILED, why)


def _show(bar: tqdm, run: Planned, done: dict[str, int]) -> None:
    steps = steps_done(run.folder)
    bar.update(max(0, steps - done.get(run.name, steps)))
    done[run.name] = steps


def _stop(jobs: Jobs, signals: Signals) -> None:
    """Ask, wait, and leave; a second signal kills."""
    told = len(jobs.running)
    jobs.stop()
    while jobs.running:
        if signals.count > 1:
            jobs.kill()
            jobs.ended()
            break
        jobs.ended()  # however they ended: their folders say how far they are
        time.sleep(LOOK_EVERY / 3)
    raise SweepStopped(signals.number, told)
