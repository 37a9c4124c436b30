"""`cmgems sweep`: from a sweep file to its finished runs."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from cmgems.config.schema import Experiment
from cmgems.errors import RunFailed, UserError
from cmgems.runs.folder import LOCK, RunFolder
from cmgems.runs.tensorboard import write_experiment
from cmgems.sweeps.branches import begin_branch
from cmgems.sweeps.cluster import SubmititExecutor
from cmgems.sweeps.config import SweepFile
from cmgems.sweeps.jobs import Executor
from cmgems.sweeps.local import LocalExecutor, visible_gpus
from cmgems.sweeps.plan import PlannedRun, cross_axes, plan_runs, select_runs
from cmgems.sweeps.ray_cluster import RayExecutor
from cmgems.sweeps.scheduler import RunOutcome, is_locked, run_scheduler
from cmgems.sweeps.search import Trials, plan_range_ends
from cmgems.sweeps.state import (
    State,
    check_unchanged,
    clear_failure,
    read_failure,
    run_state,
    steps_done,
)
from cmgems.utils.escapes import printable
from cmgems.utils.files import file_lock
from cmgems.utils.outputs import amid_run, check_output_folder

CLUSTERS = ("slurm", "ray")  # executors that compute elsewhere
RESUME = "the same command resumes the sweep"


def run_sweep(sweep_file: SweepFile) -> None:
    """Check everything, then run what is not finished.

    Raises
    ------
    UserError
        If a run could not begin; nothing was started.
    RunFailed
        If runs failed, with one line per run.
    SweepStopped
        After Ctrl-C or SIGTERM, when the runs have saved themselves.
    """
    check_output_folder(sweep_file.folder, "dir")
    is_search = bool(sweep_file.sweep.search.trials)
    if is_search:
        planned = plan_range_ends(sweep_file)
    else:
        planned = select_runs(sweep_file, plan_runs(sweep_file, cross_axes(sweep_file)))
        check_unchanged(planned)
    experiments = [run.experiment for run in planned]
    check_inputs(experiments, on_this_machine=sweep_file.sweep.executor not in CLUSTERS)
    folder = sweep_file.folder
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / LOCK, f"dir: {folder} is in use by another sweep"):
        executor = _make_executor(sweep_file)
        write_experiment(folder, experiments)
        if is_search:
            _run_search(sweep_file, planned, executor)
        else:
            _run_grid(sweep_file, planned, executor)


def run_branches(sweep_file: SweepFile, planned: list[PlannedRun]) -> None:
    """Run what is not finished of planned branches; see `run_sweep` for what it raises."""
    check_output_folder(sweep_file.folder, "dir")
    check_unchanged(planned)
    experiments = [run.experiment for run in planned]
    check_inputs(experiments, on_this_machine=True)
    folder = sweep_file.folder
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / LOCK, f"dir: {folder} is in use by another sweep"):
        write_experiment(folder, experiments)
        _run_grid(sweep_file, planned, _make_executor(sweep_file), begin_branch)


def _run_grid(
    sweep_file: SweepFile,
    planned: list[PlannedRun],
    executor: Executor,
    begin: Callable[[PlannedRun], None] = lambda run: None,
) -> None:
    """`begin` is called before a run is started or resumed."""
    _print_states(sweep_file, planned)
    if sweep_file.sweep.retry:
        for run in planned:
            clear_failure(run.folder)
    todo = [run for run in planned if run_state(run.folder) in (State.NEW, State.STOPPED)]
    # Runs that have begun come first, so that they are finished first.
    todo.sort(key=lambda run: run_state(run.folder) is State.NEW)
    total = sum(run.experiment.train.max_steps for run in planned)
    waiting = iter(todo)

    def next_run() -> PlannedRun | None:
        run = next(waiting, None)
        if run is not None:
            begin(run)
        return run

    with _step_bar(total, sum(steps_done(run.folder) for run in planned)) as bar:
        if sweep_file.sweep.executor == "slurm" and not sweep_file.sweep.slurm.wait:
            _submit_and_leave(todo, executor)
            return
        with amid_run(sweep_file.folder, RESUME):
            run_scheduler(next_run, executor, outcome_printer(bar), bar)
    _summarize(sweep_file, planned)


def _print_states(sweep_file: SweepFile, planned: list[PlannedRun]) -> None:
    counts = Counter(run_state(run.folder) for run in planned)
    listed = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
    print(f"{sweep_file.name}: {len(planned)} runs: {listed}", flush=True)


def _run_search(sweep_file: SweepFile, range_ends: list[PlannedRun], executor: Executor) -> None:
    trials = Trials(sweep_file)
    max_steps = max(run.experiment.train.max_steps for run in range_ends)
    with _step_bar(max_steps * sweep_file.sweep.search.trials, 0) as bar:
        print_outcome = outcome_printer(bar)

        def on_end(outcome: RunOutcome) -> None:
            trials.report(outcome.run)
            print_outcome(outcome)

        with amid_run(sweep_file.folder, RESUME):
            run_scheduler(trials.next, executor, on_end, bar)
    print(trials.summary())


def _submit_and_leave(todo: list[PlannedRun], executor: Executor) -> None:
    for run in todo:
        if not is_locked(run):
            RunFolder(run.folder).write_config(run.experiment)
            executor.start(run)
    print(f"{len(todo)} runs are in the queue; the same command shows how far they are")


def _make_executor(sweep_file: SweepFile) -> Executor:
    sweep = sweep_file.sweep
    if sweep.executor == "local":
        return LocalExecutor(sweep.jobs, visible_gpus())
    if sweep.executor == "ray":
        return RayExecutor(sweep.ray)
    cluster = "slurm" if sweep.executor == "slurm" else "local"
    return SubmititExecutor(sweep_file.folder / ".submitit", cluster, sweep.slurm, sweep.jobs)


def check_inputs(experiments: list[Experiment], on_this_machine: bool) -> None:
    """Read every genome and difficulty table that the runs need, once, before any of them.

    Parameters
    ----------
    experiments : of all runs
    on_this_machine : whether the runs are computed here, and need the devices that they name

    Raises
    ------
    UserError
        With one line per input that cannot be used.
    """
    # torch and lightning take seconds: what is wrong with the sweep's file is reported before.
    from cmgems.cost.device import training_device
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.genome.joined import load_pretraining_genome
    from cmgems.training.masks import load_difficulty

    problems: list[str] = []
    checked: list[tuple[Any, ...]] = []
    for experiment in experiments:
        inputs = (experiment.data, experiment.pmi, experiment.train, experiment.validation)
        if inputs in checked:
            continue
        checked.append(inputs)
        try:
            if on_this_machine:
                training_device(experiment.train)
            genome = load_pretraining_genome(experiment.data)
            GenomeDataModule(experiment, genome)
            load_difficulty(experiment, genome)
        except UserError as error:
            problems += [line for line in str(error).splitlines() if line not in problems]
    if problems:
        raise UserError("\n".join(problems))


def _step_bar(total: int, done: int) -> tqdm:
    return tqdm(
        total=total,
        initial=done,
        desc="sweep",
        unit="step",
        disable=None,  # shown on a terminal only
        dynamic_ncols=True,
    )


def outcome_printer(bar: tqdm) -> Callable[[RunOutcome], None]:
    """A function that prints one line per run that has ended, above the bar."""

    def print_outcome(outcome: RunOutcome) -> None:
        bar.write(printable(f"{outcome.run.name}: {format_outcome(outcome)}"), file=sys.stdout)
        sys.stdout.flush()

    return print_outcome


def format_outcome(outcome: RunOutcome) -> str:
    if outcome.state is not State.FINISHED:
        return f"{outcome.state.value} {outcome.reason}".strip()
    results: dict[str, Any] = RunFolder(outcome.run.folder).read_results()
    final = results["final"]
    return (
        f"finished in {results['training_seconds']:.0f} s, "
        f"perplexity {final['random']['perplexity']:.1f} (random masks), "
        f"{final['random_wide']['perplexity']:.1f} (wide), "
        f"{final['random_wide']['hidden_base_bits']:.3f} bits per hidden base"
    )


def _summarize(sweep_file: SweepFile, planned: list[PlannedRun]) -> None:
    """Print where the results are and what is left; failed runs are an error.

    Raises
    ------
    RunFailed
        If runs failed, with one line per run.
    """
    folder = sweep_file.folder
    by_state: dict[State, list[PlannedRun]] = {}
    for run in planned:
        by_state.setdefault(run_state(run.folder), []).append(run)
    num_finished = len(by_state.get(State.FINISHED, []))
    print(f"\n{num_finished} of {len(planned)} runs are finished, in {folder}")
    print(f"  cmgems compare {folder}")
    print(f"  tensorboard --logdir {folder}")
    if stopped := by_state.get(State.STOPPED):
        names = ", ".join(run.name for run in stopped)
        print(f"  stopped: {names}; the same command resumes them")
    if failed := by_state.get(State.FAILED):
        reasons = "".join(f"\n  {run.name}: {read_failure(run.folder)}" for run in failed)
        raise RunFailed(
            f"{len(failed)} of {len(planned)} runs failed (retry=true tries them again):{reasons}"
        )
