"""A hyper-parameter search with Optuna, whose memory is stored in the sweep's folder.

The sampler of a trial is seeded by the number of the trial and reads the results of earlier
trials. So a search that was stopped and resumed proposes what it would have proposed without the
stop, as long as one run is computed at a time.
"""

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from cmgems.errors import UserError
from cmgems.runs.folder import RunFolder
from cmgems.sweeps.config import Search, SweepFile
from cmgems.sweeps.plan import PlannedRun, Point, plan_runs
from cmgems.sweeps.state import State, run_state
from cmgems.utils.rng import derive_key
from cmgems.utils.text_table import text_table

STORAGE = "search.journal"
NUM_BEST = 5  # trials in the summary


def plan_range_ends(sweep_file: SweepFile) -> list[PlannedRun]:
    """Two runs, at the low and at the high ends of all ranges, checked like any other.

    Raises
    ------
    UserError
        With one line per problem.
    """
    path, ranges = sweep_file.path, sweep_file.sweep.search.keys
    problems = []
    lows: dict[str, Any] = {}
    highs: dict[str, Any] = {}
    for key, limits in ranges.items():
        problem = _range_problem(limits)
        if problem:
            problems.append(f"{path}: search.keys.{key}: {problem}")
        else:
            choices = limits.get("choices") or [limits["low"], limits["high"]]
            lows[key], highs[key] = choices[0], choices[-1]
    if not ranges:
        problems.append(f"{path}: search.keys: found none, wanted at least one config key")
    if problems:
        raise UserError("\n".join(problems))
    return plan_runs(sweep_file, [Point("trial-low", lows), Point("trial-high", highs)])


def _range_problem(limits: Any) -> str | None:
    wanted = "wanted {low, high, log} or {choices: [...]}"
    if not isinstance(limits, dict):
        return f"found {limits!r}, {wanted}"
    if set(limits) == {"choices"}:
        valid = isinstance(limits["choices"], list) and limits["choices"]
        return None if valid else f"found {limits!r}, wanted a list of choices"
    if not {"low", "high"} <= set(limits) <= {"low", "high", "log"}:
        return f"found {limits!r}, {wanted}"
    low, high = limits["low"], limits["high"]
    if not all(type(end) in (int, float) for end in (low, high)) or not low < high:
        return f"found {limits!r}, wanted numbers with low below high"
    if limits.get("log") and low <= 0:
        return f"found {limits!r}, wanted low above 0 for a logarithmic range"
    return None


class Trials:
    """The runs of a search, proposed one after the other.

    `next` gives a run, or None when there is none to begin now; `report` passes the result of a
    run that has ended to the sampler.
    """

    def __init__(self, sweep_file: SweepFile):
        self.sweep_file, self.search = sweep_file, sweep_file.sweep.search
        self.optuna = _import_optuna()
        folder = sweep_file.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.study = _open_study(self.optuna, folder / STORAGE, sweep_file.name, self.search)
        self._check_ranges(folder)
        # Trials of an earlier session without a result are resumed first.
        running = self.optuna.trial.TrialState.RUNNING
        self._unfinished = [trial.number for trial in self._trials() if trial.state == running]
        self._numbers: dict[str, int] = {}  # of trials, by the name of their run

    def _trials(self) -> list[Any]:
        return self.study.get_trials(deepcopy=False)

    def _check_ranges(self, folder: Path) -> None:
        """A search whose ranges changed is another search."""
        wanted = json.loads(json.dumps(self.search.keys))
        stored = self.study.user_attrs.get("keys")
        if stored is None:
            self.study.set_user_attr("keys", wanted)
        elif stored != wanted:
            raise UserError(
                f"search.keys: the search in {folder} has {stored}, found {wanted}; wanted the "
                f"same or another folder (dir=PATH)"
            )

    def next(self) -> PlannedRun | None:
        if self._unfinished:
            number = self._unfinished.pop(0)
        elif len(self._trials()) < self.search.trials:
            number = self._propose()
        else:
            return None
        run = self._plan_trial(number, self._trials()[number].user_attrs["values"])
        self._numbers[run.name] = number
        return run

    def _propose(self) -> int:
        number = len(self._trials())
        search = self.search
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=derive_key(search.seed, f"trial {number}") % 2**32, n_startup_trials=search.startup
        )
        trial = self.study.ask()
        values = {key: _suggest(trial, key, limits) for key, limits in search.keys.items()}
        trial.set_user_attr("values", values)
        return trial.number

    def _plan_trial(self, number: int, values: dict[str, Any]) -> PlannedRun:
        return plan_runs(self.sweep_file, [Point(f"trial-{number:03d}", values)])[0]

    def report(self, run: PlannedRun) -> None:
        """Pass the result of a run, or that it failed, to the sampler; a stopped run has none."""
        number = self._numbers[run.name]
        state = run_state(run.folder)
        if state is State.FINISHED:
            results = RunFolder(run.folder).read_results()
            self.study.tell(number, read_metric(results, self.search.metric))
        elif state is State.FAILED:
            self.study.tell(number, state=self.optuna.trial.TrialState.FAIL)

    def summary(self) -> str:
        """The best trials, best first."""
        complete = self.optuna.trial.TrialState.COMPLETE
        trials = [trial for trial in self._trials() if trial.state == complete]
        trials.sort(key=lambda trial: trial.value, reverse=self.search.direction == "maximize")
        rows = []
        for trial in trials[:NUM_BEST]:
            values = ", ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in trial.user_attrs["values"].items()
            )
            rows.append((f"trial-{trial.number:03d}", f"{trial.value:.4f}", values))
        head = f"best of {len(trials)} trials by {self.search.metric}:"
        return f"{head}\n{text_table(rows, '<><', indent='  ')}".rstrip()


def read_metric(results: dict[str, Any], dotted: str) -> float:
    """A number of results.json, by its dotted path.

    Raises
    ------
    UserError
        If there is no number of this name.
    """
    value: Any = results
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            known = ", ".join(value) if isinstance(value, dict) else "a number"
            raise UserError(f"search.metric: {dotted}: no {name} in results.json, there is {known}")
        value = value[name]
    if not isinstance(value, int | float):
        raise UserError(f"search.metric: {dotted}: found {value!r}, wanted a number")
    return float(value)


def _suggest(trial: Any, key: str, limits: dict[str, Any]) -> Any:
    if "choices" in limits:
        # by index: a choice may be a list of names
        index = trial.suggest_categorical(key, list(range(len(limits["choices"]))))
        return limits["choices"][index]
    low, high, log = limits["low"], limits["high"], bool(limits.get("log"))
    if type(low) is int and type(high) is int:
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, float(low), float(high), log=log)


def _open_study(optuna: ModuleType, path: Path, name: str, search: Search) -> Any:
    from optuna.storages import JournalStorage  # optional dependency
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        lock = JournalFileOpenLock(str(path))  # no links: they are missing on some file systems
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        return optuna.create_study(
            study_name=name, storage=storage, direction=search.direction, load_if_exists=True
        )


def _import_optuna() -> ModuleType:
    try:
        import optuna  # optional dependency
    except ImportError:
        raise UserError("search: optuna is not installed; pip install 'cmgems[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
