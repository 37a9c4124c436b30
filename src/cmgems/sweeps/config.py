"""A sweep file: every key, its default and its meaning."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from cmgems.config.loading import load_as
from cmgems.config.schema import Experiment, option
from cmgems.errors import UserError


@dataclass(frozen=True)
class Search:
    trials: int = option(0, "runs of a search; 0: no search, the axes are run", low=0)
    metric: str = option(
        "final.random_wide.hidden_base_bits", "a figure of results.json, as a dotted path"
    )
    direction: str = option("minimize", "which is better", choices=("minimize", "maximize"))
    seed: int = option(0, "of the sampler", low=0)
    startup: int = option(10, "trials drawn at random before the sampler learns from them", low=1)
    keys: dict = option(
        None,
        "config keys and their ranges: {low, high, log} or {choices: [...]}; two whole numbers are "
        "a range of whole numbers",
        factory=dict,
    )


@dataclass(frozen=True)
class Slurm:
    partition: str = option("", "partition; empty: the cluster's default")
    minutes: int = option(720, "time limit of a job; a longer run is submitted again", low=1)
    cpus: int = option(4, "cores of a run", low=1)
    gpus: int = option(0, "GPUs of a run", low=0)
    memory: int = option(8, "gigabytes of a run", low=1)
    wait: bool = option(
        True, "false: submit and leave; the same command looks after the runs later"
    )


@dataclass(frozen=True)
class Sweep:
    name: str = option("", "name of the sweep; default: the file's")
    base: str = option("", "the experiment that every run starts from, relative to this file")
    dir: str = option("", "folder of the sweep, a folder in it for each run; default runs/NAME")
    set: dict = option(None, "config keys that every run has", factory=dict)
    axes: dict = option(
        None,
        "what varies: a config key with a list of values, or a name of your own with named points "
        "that set several keys each",
        factory=dict,
    )
    mode: str = option(
        "grid",
        "`grid`: every point of an axis with every point of the others; `list`: side by side",
        choices=("grid", "list"),
    )
    search: Search = field(default_factory=Search)
    only: str = option("", "run only these: a pattern of run names, such as cm_*-seed0")
    jobs: int = option(1, "runs at once; they share the cores and GPUs of this machine", low=1)
    retry: bool = option(False, "try failed runs again")
    executor: str = option(
        "local",
        "where runs are computed; `submitit-local` tries the way of Slurm without a cluster",
        choices=("local", "slurm", "submitit-local"),
    )
    slurm: Slurm = field(default_factory=Slurm)


class SweepFile(NamedTuple):
    """A sweep and where it was read."""

    path: Path
    sweep: Sweep
    overrides: list[str]  # of config keys, for every run


def read_sweep(path: str | Path, overrides: list[str]) -> SweepFile:
    """Read a sweep file.

    Overrides whose first word is a section or key of an experiment go to every run, the others
    to the sweep; `name` is the sweep's.

    Raises
    ------
    UserError
        With one line for each problem.
    """
    path = Path(path)
    for_runs = {part.name for part in fields(Experiment)} - {"name"}
    own, of_runs = [], []
    for override in overrides:
        first = override.partition("=")[0].partition(".")[0]
        (of_runs if first in for_runs else own).append(override)
    sweep = load_as(Sweep, path, own)
    if not sweep.base:
        raise UserError(f"{path}: base: found nothing, wanted an experiment file")
    if bool(sweep.search.trials) == bool(sweep.axes):
        found = "both" if sweep.axes else "neither"
        raise UserError(f"{path}: found {found}, wanted either axes or search.trials")
    return SweepFile(path, sweep, of_runs)


def sweep_folder(file: SweepFile) -> Path:
    return Path(file.sweep.dir or f"runs/{sweep_name(file)}")


def sweep_name(file: SweepFile) -> str:
    return file.sweep.name or file.path.stem
