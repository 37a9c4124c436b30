"""The loop that starts runs, follows them and stops them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm import tqdm

from cmgems.errors import SweepStopped
from cmgems.runs.folder import IN_USE, RunFolder
from cmgems.sweeps.jobs import Executor, FinishedJob
from cmgems.sweeps.plan import PlannedRun
from cmgems.sweeps.state import (
    State,
    clear_failure,
    failure_reason,
    run_state,
    steps_done,
    write_failure,
)
from cmgems.utils.signals import KILLING_SIGNALS, STOP_SIGNALS, stop_signals_handled

POLL_SECONDS = 0.3
# 0 without results: stopped before it could answer a signal, Lightning ends a run as if finished.
STOP_CODES = (0, *(code for number in STOP_SIGNALS for code in (128 + number, -number)))


class StopSignals:
    """Counts the signals that ask to stop, which do nothing else meanwhile."""

    def __init__(self) -> None:
        self.number, self.count = 0, 0

    @contextmanager
    def caught(self) -> Iterator["StopSignals"]:
        with stop_signals_handled(self._record):
            yield self

    def _record(self, number: int, frame: object) -> None:
        if not self.count or number in KILLING_SIGNALS:
            self.number, self.count = number, self.count + 1


class RunOutcome(NamedTuple):
    """What has become of a run whose process has ended."""

    run: PlannedRun
    state: State
    reason: str  # of a failure


def run_scheduler(
    next_run: Callable[[], PlannedRun | None],
    executor: Executor,
    on_end: Callable[[RunOutcome], None],
    bar: tqdm,
) -> None:
    """Compute runs until there are no more.

    Parameters
    ----------
    next_run : gives a run to begin or to resume; None when there is none now
    executor : where runs are computed
    on_end : called with the outcome of each run that has ended
    bar : over the steps of all runs

    Raises
    ------
    SweepStopped
        After a signal, when all runs are saved and have stopped.
    """
    with StopSignals().caught() as signals:
        scheduler = Scheduler(next_run, executor, on_end, bar, signals)
        try:
            while not scheduler.finished:
                scheduler.start_runs()
                scheduler.collect_ended()
                scheduler.collect_external()
                scheduler.update_bar()
                if signals.count:
                    _stop_after_signal(executor, signals)
                time.sleep(POLL_SECONDS)
        except OSError:  # a full disk: runs that nobody watches are not left behind
            _stop(executor, signals)
            raise


class Scheduler:
    """The runs of a sweep that are under way; one method per transition.

    A run that `next_run` gives is either computed by the executor, or it is an external run: a
    process that an earlier sweep left behind computes it. When either ends, `on_end` is called
    with its outcome; an external run that ends unfinished is resumed by the executor. After a
    signal nothing begins any more. Parameters: see `run_scheduler`.
    """

    def __init__(
        self,
        next_run: Callable[[], PlannedRun | None],
        executor: Executor,
        on_end: Callable[[RunOutcome], None],
        bar: tqdm,
        signals: StopSignals,
    ):
        self.next_run, self.executor, self.on_end, self.bar = next_run, executor, on_end, bar
        self.signals = signals
        self.external_runs: list[PlannedRun] = []
        self._exhausted = False  # the last call of `next_run` gave none
        self._shown_steps: dict[str, int] = {}  # by run, in the bar

    @property
    def finished(self) -> bool:
        return self._exhausted and not self.executor.running and not self.external_runs

    def start_runs(self) -> None:
        """Begin runs until there is no free slot, or no run."""
        while not self._exhausted and not self.signals.count and self.executor.free_slots() > 0:
            run = self.next_run()
            if run is None:
                self._exhausted = True
            elif is_locked(run):
                self.external_runs.append(run)
            else:
                self._begin(run)
                self._shown_steps[run.name] = steps_done(run.folder)

    def collect_ended(self) -> None:
        """Handle the runs whose process has ended."""
        for job in self.executor.collect():
            outcome = classify_exit(job)
            self._show_steps(job.run)
            if outcome is None:
                self.external_runs.append(job.run)
            else:
                self.on_end(outcome)
                self._exhausted = False  # a search may have a next trial now

    def collect_external(self) -> None:
        """Handle the runs that other processes have left; resume those that are not finished."""
        for run in [run for run in self.external_runs if not is_locked(run)]:
            self.external_runs.remove(run)
            if run_state(run.folder) is State.FINISHED:
                self.on_end(RunOutcome(run, State.FINISHED, ""))
            elif not self.signals.count:
                self._begin(run)

    def update_bar(self) -> None:
        for run in self.executor.running.values():
            self._show_steps(run)

    def _begin(self, run: PlannedRun) -> None:
        clear_failure(run.folder)
        RunFolder(run.folder).write_config(run.experiment)
        self.executor.start(run)

    def _show_steps(self, run: PlannedRun) -> None:
        steps = steps_done(run.folder)
        self.bar.update(max(0, steps - self._shown_steps.get(run.name, steps)))
        self._shown_steps[run.name] = steps


def is_locked(run: PlannedRun) -> bool:
    """Whether a process computes the run now."""
    return RunFolder(run.folder).in_use()


def classify_exit(job: FinishedJob) -> RunOutcome | None:
    """The outcome of a run whose process has ended; None if another process computes the run."""
    run, state = job.run, run_state(job.run.folder)
    last_message = failure_reason(run.folder, job.exit_code)
    stopped = job.exit_code in STOP_CODES or last_message.startswith("stopped ")
    if state is State.FINISHED or stopped:
        return RunOutcome(run, state, "")
    reason = job.cluster_message or last_message
    if IN_USE in reason:
        return None
    write_failure(run.folder, reason)
    return RunOutcome(run, State.FAILED, reason)


def _stop_after_signal(executor: Executor, signals: StopSignals) -> None:
    num_running = len(executor.running)
    _stop(executor, signals)
    raise SweepStopped(signals.number, num_running)


def _stop(executor: Executor, signals: StopSignals) -> None:
    """Ask all runs to stop and wait for them; a second signal kills them."""
    executor.stop()
    while executor.running:
        if signals.count > 1:
            executor.kill()
            executor.collect()
            break
        executor.collect()  # the outcomes are of no matter: the folders show how far the runs are
        time.sleep(POLL_SECONDS / 3)
