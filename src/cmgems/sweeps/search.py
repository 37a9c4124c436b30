"""A hyper-parameter search with Optuna; what it knows lies in the sweep's folder.

The sampler of a trial is seeded by the number of the trial and reads what earlier trials have
found, so a search that was stopped and goes on proposes what it would have proposed, as long as
one run goes on at a time.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from cmgems.errors import UserError
from cmgems.sweeps.config import Search, SweepFile, sweep_folder, sweep_name
from cmgems.sweeps.plan import Planned, Point, plan
from cmgems.sweeps.state import State, state
from cmgems.utils.rng import derive_key
from cmgems.utils.text_table import text_table

STORAGE = "search.journal"


def range_ends(file: SweepFile) -> list[Planned]:
    """Two runs, at the low and at the high ends of all ranges, checked like any other.

    Raises
    ------
    UserError
        With a line for each problem.
    """
    problems, lows, highs = [], {}, {}
    for key, limits in file.sweep.search.keys.items():
        problem = _problem(limits)
        if problem:
            problems.append(f"{file.path}: search.keys.{key}: {problem}")
        else:
            choices = limits.get("choices") or [limits["low"], limits["high"]]
            lows[key], highs[key] = choices[0], choices[-1]
    if not file.sweep.search.keys:
        problems.append(f"{file.path}: search.keys: found none, wanted at least one config key")
    if problems:
        raise UserError("\n".join(problems))
    return plan(file, [Point("trial-low", lows), Point("trial-high", highs)])


def _problem(limits: Any) -> str | None:
    wanted = "wanted {low, high, log} or {choices: [...]}"
    if not isinstance(limits, dict):
        return f"found {limits!r}, {wanted}"
    if set(limits) == {"choices"}:
        fine = isinstance(limits["choices"], list) and limits["choices"]
        return None if fine else f"found {limits!r}, wanted a list of choices"
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

    `next` gives a run or None when none is left to begin now, `tell` says that one is over.
    """

    def __init__(self, file: SweepFile):
        self.file, self.search = file, file.sweep.search
        self.optuna = _optuna()
        folder = sweep_folder(file)
        folder.mkdir(parents=True, exist_ok=True)
        self.study = _study(self.optuna, folder / STORAGE, sweep_name(file), self.search)
        self._check_keys(folder)
        known = self.study.get_trials(deepcopy=False)
        # Those of an earlier sitting that were not told: go on with them first.
        running = self.optuna.trial.TrialState.RUNNING
        self._open = [trial.number for trial in known if trial.state == running]
        self.trials: dict[str, int] = {}

    def _check_keys(self, folder: Path) -> None:
        """A search whose ranges changed is another search."""
        wanted = json.loads(json.dumps(self.search.keys))
        found = self.study.user_attrs.get("keys")
        if found is None:
            self.study.set_user_attr("keys", wanted)
        elif found != wanted:
            raise UserError(
                f"search.keys: the search in {folder} has {found}, found {wanted}; wanted the same "
                f"or another folder (dir=PATH)"
            )

    def next(self) -> Planned | None:
        if self._open:
            number = self._open.pop(0)
        elif len(self.study.get_trials(deepcopy=False)) < self.search.trials:
            number = self._propose()
        else:
            return None
        trial = self.study.get_trials(deepcopy=False)[number]
        run = self._planned(number, trial.user_attrs["values"])
        self.trials[run.name] = number
        return run

    def _propose(self) -> int:
        number = len(self.study.get_trials(deepcopy=False))
        search = self.search
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=derive_key(search.seed, f"trial {number}") % 2**32, n_startup_trials=search.startup
        )
        trial = self.study.ask()
        values = {key: _suggest(trial, key, limits) for key, limits in search.keys.items()}
        trial.set_user_attr("values", values)
        return trial.number

    def _planned(self, number: int, values: dict[str, Any]) -> Planned:
        return plan(self.file, [Point(f"trial-{number:03d}", values)])[0]

    def tell(self, run: Planned) -> None:
        """A run is over: its figure, or that it failed, becomes known to the sampler."""
        number = self.trials[run.name]
        if state(run.folder) is State.FINISHED:
            results = json.loads((run.folder / "results.json").read_text())
            self.study.tell(number, figure(results, self.search.metric))
        elif state(run.folder) is State.FAILED:
            self.study.tell(number, state=self.optuna.trial.TrialState.FAIL)

    def summary(self) -> str:
        """The best trials, best first, and those that failed."""
        complete = self.optuna.trial.TrialState.COMPLETE
        done = [t for t in self.study.get_trials(deepcopy=False) if t.state == complete]
        done.sort(key=lambda t: t.value, reverse=self.search.direction == "maximize")
        rows = []
        for trial in done[:5]:
            values = ", ".join(
                f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
                for k, v in trial.user_attrs["values"].items()
            )
            rows.append((f"trial-{trial.number:03d}", f"{trial.value:.4f}", values))
        head = f"best of {len(done)} trials by {self.search.metric}:"
        return f"{head}\n{text_table(rows, '<><', indent='  ')}".rstrip()


def figure(results: dict, dotted: str) -> float:
    """A figure of results.json.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    found: Any = results
    for name in dotted.split("."):
        if not isinstance(found, dict) or name not in found:
            known = ", ".join(found) if isinstance(found, dict) else "a number"
            raise UserError(f"search.metric: {dotted}: no {name} in results.json, there is {known}")
        found = found[name]
    if not isinstance(found, int | float):
        raise UserError(f"search.metric: {dotted}: found {found!r}, wanted a number")
    return float(found)


def _suggest(trial: Any, key: str, limits: dict) -> Any:
    if "choices" in limits:
        # by place: a choice may be a list of names
        place = trial.suggest_categorical(key, list(range(len(limits["choices"]))))
        return limits["choices"][place]
    low, high, log = limits["low"], limits["high"], bool(limits.get("log"))
    if type(low) is int and type(high) is int:
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, float(low), float(high), log=log)


def _study(optuna: Any, path: Path, name: str, search: Search) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        lock = JournalFileOpenLock(str(path))  # no links: they are missing on some file systems
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        return optuna.create_study(
            study_name=name, storage=storage, direction=search.direction, load_if_exists=True
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("search: optuna is not installed; pip install 'cmgems[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
