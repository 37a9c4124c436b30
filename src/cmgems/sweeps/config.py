"""A sweep file: every option, its default and its meaning."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from cmgems.config.loading import load_as
from cmgems.config.options import option
from cmgems.config.schema import Experiment
from cmgems.config.shipped import experiment_file
from cmgems.errors import UserError


@dataclass(frozen=True)
class Search:
    trials: int = option(0, "runs of a search; 0: no search, the axes are run", low=0, high=10**5)
    metric: str = option(
        "final.random_wide.hidden_base_bits", "a value of results.json, as a dotted path"
    )
    direction: str = option("minimize", "which is better", choices=("minimize", "maximize"))
    seed: int = option(0, "seed of the sampler", low=0)
    startup: int = option(10, "random trials before the sampler learns from them", low=1)
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
    cpus: int = option(4, "cores per run", low=1)
    gpus: int = option(0, "GPUs per run", low=0)
    memory: int = option(8, "gigabytes of memory per run", low=1)
    wait: bool = option(
        True, "false: submit the jobs and end; the same command follows the runs later"
    )


@dataclass(frozen=True)
class Ray:
    address: str = option(
        "", "cluster: `auto` on one of its machines, or ray://HOST:10001; empty: begun on this one"
    )
    cpus: int = option(1, "cores per run", low=1)
    gpus: int = option(0, "GPUs per run", low=0)


@dataclass(frozen=True)
class Sweep:
    name: str = option("", "name of the sweep; default: the file's")
    base: str = option("", "the experiment that every run starts from, relative to this file")
    dir: str = option("", "folder of the sweep, with a folder in it per run; default runs/NAME")
    set: dict = option(None, "config keys that every run has", factory=dict)
    axes: dict = option(
        None,
        "what varies: a config key with a list of values, or any other name with named points that "
        "set several keys each",
        factory=dict,
    )
    mode: str = option(
        "grid",
        "`grid`: every point of an axis with every point of the others; `list`: the first points "
        "of all axes together, then the second ones, and so on",
        choices=("grid", "list"),
    )
    search: Search = field(default_factory=Search)
    only: str = option("", "run only these: a pattern of run names, such as cm_*-seed0")
    jobs: int = option(
        1, "runs at once; they share the cores and GPUs of this machine", low=1, high=1_024
    )
    retry: bool = option(False, "try failed runs again")
    executor: str = option(
        "local",
        "where runs are computed; `submitit-local` goes the same way as Slurm, without a cluster",
        choices=("local", "slurm", "ray", "submitit-local"),
    )
    slurm: Slurm = field(default_factory=Slurm)
    ray: Ray = field(default_factory=Ray)


class SweepFile(NamedTuple):
    """A sweep and the file that it was read from."""

    path: Path
    sweep: Sweep
    overrides: list[str]  # of config keys, for every run

    @property
    def name(self) -> str:
        return self.sweep.name or self.path.stem

    @property
    def folder(self) -> Path:
        return Path(self.sweep.dir or f"runs/{self.name}")


def read_sweep(path: str | Path, overrides: list[str]) -> SweepFile:
    """Read a sweep file.

    Overrides whose first word is a section or key of an experiment go to every run, all others to
    the sweep; `name` is the sweep's.

    Raises
    ------
    UserError
        With one line per problem.
    """
    path = experiment_file(path, "sweep")
    run_keys = {section.name for section in fields(Experiment)} - {"name"}
    run_overrides: list[str] = []
    sweep_overrides: list[str] = []
    for override in overrides:
        first_word = override.partition("=")[0].partition(".")[0]
        (run_overrides if first_word in run_keys else sweep_overrides).append(override)
    sweep = load_as(Sweep, path, sweep_overrides)
    if not sweep.base:
        raise UserError(f"{path}: base: found nothing, wanted an experiment file")
    if bool(sweep.search.trials) == bool(sweep.axes):
        given = "both" if sweep.axes else "neither"
        raise UserError(f"{path}: found {given}, wanted either axes or search.trials")
    return SweepFile(path, sweep, run_overrides)
