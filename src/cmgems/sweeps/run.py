"""`cmgems sweep`: from a sweep file to its finished runs."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from cmgems.config.schema import Experiment
from cmgems.errors import RunFailed, UserError
from cmgems.runs.folder import LOCK, RunFolder
from cmgems.sweeps.config import SweepFile, sweep_folder, sweep_name
from cmgems.sweeps.drive import Outcome, drive
from cmgems.sweeps.jobs import Jobs
from cmgems.sweeps.plan import Planned, matching, plan, points
from cmgems.sweeps.search import Trials, range_ends
from cmgems.sweeps.state import State, check_unchanged, failure, forget_failure, state, steps_done
from cmgems.utils.files import file_lock


def run_sweep(file: SweepFile) -> None:
    """Check everything, then run what is not finished.

    Raises
    ------
    UserError
        If a run could not begin; nothing was started.
    RunFailed
        If runs failed, with a line for each.
    SweepStopped
        After Ctrl-C or SIGTERM, when the runs have saved themselves.
    """
    searches = bool(file.sweep.search.trials)
    if searches:
        planned = range_ends(file)
    else:
        planned = matching(file, plan(file, points(file)))
        check_unchanged(planned)
    check_inputs([run.experiment for run in planned], here=file.sweep.executor != "slurm")
    folder = sweep_folder(file)
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / LOCK, f"dir: {folder} is in use by another sweep"):
        from cmgems.runs.tensorboard import write_experiment

        jobs = _jobs(file)
        write_experiment(folder, [run.experiment for run in planned])
        if searches:
            _search(file, planned, jobs)
        else:
            _grid(file, planned, jobs)


def _grid(file: SweepFile, planned: list[Planned], jobs: Jobs) -> None:
    states = {run.name: state(run.folder) for run in planned}
    if file.sweep.retry:
        for run in planned:
            forget_failure(run.folder)
    todo = [run for run in planned if state(run.folder) in (State.NEW, State.STOPPED)]
    # Those under way first: what is begun comes to an end.
    todo.sort(key=lambda run: state(run.folder) is State.NEW)
    counts = Counter(states.values())
    listed = ", ".join(f"{counts[each]} {each.value}" for each in State if counts[each])
    print(f"{sweep_name(file)}: {len(planned)} runs: {listed}", flush=True)
    total = sum(run.experiment.train.max_steps for run in planned)
    waiting = iter(todo)
    with _bar(total, sum(steps_done(run.folder) for run in planned)) as bar:
        if file.sweep.executor == "slurm" and not file.sweep.slurm.wait:
            _submit(todo, jobs)
            return
        drive(lambda: next(waiting, None), jobs, _teller(bar), bar)
    _conclude(file, planned)


def _search(file: SweepFile, ends: list[Planned], jobs: Jobs) -> None:
    trials = Trials(file)
    steps = max(run.experiment.train.max_steps for run in ends)
    with _bar(steps * file.sweep.search.trials, 0) as bar:
        tell = _teller(bar)

        def over(outcome: Outcome) -> None:
            trials.tell(outcome.run)
            tell(outcome)

        drive(trials.next, jobs, over, bar)
    print(trials.summary())


def _submit(todo: list[Planned], jobs: Jobs) -> None:
    for run in todo:
        if not RunFolder(run.folder).in_use():
            RunFolder(run.folder).write_config(run.experiment)
            jobs.start(run)
    print(f"{len(todo)} runs are in the queue; the same command shows how far they are")


def _jobs(file: SweepFile) -> Jobs:
    sweep = file.sweep
    if sweep.executor != "local":
        from cmgems.sweeps.cluster import ClusterJobs

        cluster = "slurm" if sweep.executor == "slurm" else "local"
        return ClusterJobs(sweep_folder(file) / ".submitit", cluster, sweep.slurm, sweep.jobs)
    from cmgems.sweeps.local import LocalJobs, visible_gpus

    return LocalJobs(sweep.jobs, visible_gpus())


def check_inputs(experiments: list[Experiment], here: bool) -> None:
    """Read every genome and difficulty table that the runs need, once, before any of them.

    Parameters
    ----------
    experiments : of all runs
    here : whether they are computed on this machine, and need what it has

    Raises
    ------
    UserError
        With a line for each that cannot be used.
    """
    from cmgems.cost.device import training_device
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.genome.cache import load_genome
    from cmgems.pretraining import load_difficulty

    problems, seen = [], []
    for experiment in experiments:
        parts = (experiment.data, experiment.pmi, experiment.train, experiment.validation)
        if parts in seen:
            continue
        seen.append(parts)
        try:
            if here:
                training_device(experiment.train)
            genome = load_genome(experiment.data.genome)
            GenomeDataModule(experiment, genome)
            load_difficulty(experiment, genome)
        except UserError as error:
            problems += [line for line in str(error).splitlines() if line not in problems]
    if problems:
        raise UserError("\n".join(problems))


def _bar(total: int, done: int) -> tqdm:
    return tqdm(
        total=total,
        initial=done,
        desc="sweep",
        unit="step",
        disable=None,  # shown on a terminal only
        dynamic_ncols=True,
    )


def _teller(bar: tqdm) -> Callable[[Outcome], None]:
    """Says a line for each run that ends."""

    def tell(outcome: Outcome) -> None:
        bar.write(f"{outcome.run.name}: {_word(outcome)}", file=sys.stdout)
        sys.stdout.flush()

    return tell


def _word(outcome: Outcome) -> str:
    if outcome.state is not State.FINISHED:
        return f"{outcome.state.value} {outcome.reason}".strip()
    results: dict[str, Any] = RunFolder(outcome.run.folder).read_results()
    after = results["final"]
    return (
        f"finished in {results['training_seconds']:.0f} s, "
        f"perplexity {after['random']['perplexity']:.1f} (random masks), "
        f"{after['random_wide']['perplexity']:.1f} (wide), "
        f"{after['random_wide']['hidden_base_bits']:.3f} bits a hidden base"
    )


def _conclude(file: SweepFile, planned: list[Planned]) -> None:
    folder = sweep_folder(file)
    by_state: dict[State, list[Planned]] = {}
    for run in planned:
        by_state.setdefault(state(run.folder), []).append(run)
    finished = len(by_state.get(State.FINISHED, []))
    print(f"\n{finished} of {len(planned)} runs are finished, in {folder}")
    print(f"  cmgems compare {folder}")
    print(f"  tensorboard --logdir {folder}")
    if stopped := by_state.get(State.STOPPED):
        print(f"  stopped: {', '.join(run.name for run in stopped)}; the same command goes on")
    if failed := by_state.get(State.FAILED):
        reasons = "".join(f"\n  {run.name}: {failure(run.folder)}" for run in failed)
        raise RunFailed(
            f"{len(failed)} of {len(planned)} runs failed (retry=true tries them again):{reasons}"
        )
