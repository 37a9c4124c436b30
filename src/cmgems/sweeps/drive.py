"""The loop that starts runs, watches over them and stops them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm import tqdm

from cmgems.errors import SweepStopped
from cmgems.runs.folder import RunFolder
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
    with Signals().noted() as signals:
        scheduler = Scheduler(next_run, jobs, over, bar, signals)
        while not scheduler.finished:
            scheduler.fill()
            scheduler.collect()
            scheduler.look_elsewhere()
            scheduler.show()
            if signals.count:
                _stop(jobs, signals)
            time.sleep(LOOK_EVERY)


class Scheduler:
    """Where each run of a sweep is; one method for each way that it can go on.

    A run that `next_run` gives is computed (`jobs.running`), or is `elsewhere`: in the hands of a
    process that an earlier sweep left behind. From either it comes to an end, of which `over` is
    told; what is left undone elsewhere is computed here. After a signal nothing begins any more.
    Parameters: see `drive`.
    """

    def __init__(
        self,
        next_run: Callable[[], Planned | None],
        jobs: Jobs,
        over: Callable[[Outcome], None],
        bar: tqdm,
        signals: Signals,
    ):
        self.next_run, self.jobs, self.over, self.bar = next_run, jobs, over, bar
        self.signals = signals
        self.elsewhere: list[Planned] = []
        self._exhausted = False  # `next_run` had none when it was last asked
        self._shown: dict[str, int] = {}  # steps by run that the bar has

    @property
    def finished(self) -> bool:
        return self._exhausted and not self.jobs.running and not self.elsewhere

    def fill(self) -> None:
        """Begin runs until there is no room, or no run."""
        while not self._exhausted and not self.signals.count and self.jobs.room() > 0:
            run = self.next_run()
            if run is None:
                self._exhausted = True
            elif _in_hand(run):
                self.elsewhere.append(run)
            else:
                self._begin(run)
                self._shown[run.name] = steps_done(run.folder)

    def collect(self) -> None:
        """Take in the runs whose process is over."""
        for ended in self.jobs.ended():
            outcome = settle(ended)
            self._show(ended.run)
            if outcome is None:
                self.elsewhere.append(ended.run)
            else:
                self.over(outcome)
                self._exhausted = False  # a search may have a next trial now

    def look_elsewhere(self) -> None:
        """Take in what other processes have let go of; go on with what they have not finished."""
        for run in [run for run in self.elsewhere if not _in_hand(run)]:
            self.elsewhere.remove(run)
            if state(run.folder) is State.FINISHED:
                self.over(Outcome(run, State.FINISHED, ""))
            elif not self.signals.count:
                self._begin(run)

    def show(self) -> None:
        """Move the bar on."""
        for run in self.jobs.running.values():
            self._show(run)

    def _begin(self, run: Planned) -> None:
        forget_failure(run.folder)
        RunFolder(run.folder).write_config(run.experiment)
        self.jobs.start(run)

    def _show(self, run: Planned) -> None:
        steps = steps_done(run.folder)
        self.bar.update(max(0, steps - self._shown.get(run.name, steps)))
        self._shown[run.name] = steps


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
