"""Trials of the soak with signals to runs and sweeps, kills of a sweep, and names of its runs."""

import signal
from pathlib import Path

import numpy as np
import yaml
from soak_outcomes import HELD, LOST, SILENT, Trial
from soak_processes import Child, die_at_operation, fault, left_over, run
from soak_runs import BASE, LAYOUTS, SHORT, TINY, arguments, judge, reference

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
TARGETS = [  # what is started, and which of its processes gets the signal
    ("single", "group"),
    ("two ranks", "child"),
    ("two ranks", "parent"),
    ("two ranks", "group"),
    ("sweep", "child"),
    ("sweep", "parent"),
]
HOSTILE_NAMES = (
    "$(touch made)",
    "a;touch made",
    "`touch made`",
    "'\"",
    "a b",
    "&& touch made",
    "| touch made",
    "> made",
    "*",
    "-rf",
    "~",
    "$HOME",
)
REFUSED_NAMES = ("../up", "a\nb", "", ".", "/tmp/made", "a\0b", "${HOME}")


def sweep_command(folder: Path, axes: dict, *overrides: str) -> list[str]:
    """Of a sweep of tiny runs in `folder/sweep`; its file is written first."""
    content = {"base": str(BASE), "axes": axes, "set": {"curriculum.strategies": ["random"]}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    options = [*TINY, *LAYOUTS["single"], *overrides]
    return ["sweep", str(folder / "sweep.yaml"), *options, f"dir={folder / 'sweep'}"]


def run_folder(folder: Path) -> Path:
    """Of the only run of the sweep."""
    return next(path.parent for path in (folder / "sweep").glob("*/config.yaml"))


def sweeps(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """SIGKILL of a sweep just before its n-th change of a file, then the same sweep again."""
    wanted, _ = reference("plain", "single", folder, *SHORT)
    at = number + 1
    command = sweep_command(folder, {"seed": [0]}, *SHORT)
    die = die_at_operation(at, folder / "sweep")
    if run(command, folder / "log0", before=die).code == 0:
        return None
    ended = run(command, folder / "log")
    if (failed := fault(ended, f"operation {at} of a sweep")) is not None:
        return failed
    return judge(ended, run_folder(folder), wanted, f"operation {at} of a sweep")


def signals(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A signal at a random time: an end in order, no process is left, and the run goes on."""
    chosen = list(SIGNALS)[number % len(SIGNALS)]
    started, target = TARGETS[number // len(SIGNALS) % len(TARGETS)]
    what = f"{chosen.name} to {started}, {target}"
    layout = "single" if started == "sweep" else started
    wanted, seconds = reference("plain", layout, folder)
    if started == "sweep":
        command, retry = sweep_command(folder, {"seed": [0]}), ["retry=true"]
    else:
        command, retry = arguments("plain", layout, folder / "run"), []
    child = Child(command, folder / "log0")
    child.wait(rng.uniform(0.3, seconds))
    child.send(chosen, target)
    stopped = child.finish()
    codes = [0, SIGNALS[chosen]]
    if target == "child":  # the first rank has no signal, a sweep has a run that was stopped
        codes += [1, SIGNALS[signal.SIGTERM]]
    if not any(folder.rglob("last.ckpt")):  # before its handlers are there it has nothing to save
        codes += [-chosen]
    if (failed := fault(stopped, what, tuple(codes))) is not None:
        return failed
    if left := left_over(folder):
        return Trial(LOST, f"{what}: processes are left: {left}")
    ended = run([*command, *retry], folder / "log")
    if (failed := fault(ended, what)) is not None:
        return failed
    path = run_folder(folder) if started == "sweep" else folder / "run"
    return judge(ended, path, wanted, what)


def hostile_sweep(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A sweep of 12 runs whose names a shell would obey: all run, nothing else is made."""
    points = {name: {"seed": n} for n, name in enumerate(HOSTILE_NAMES)}
    command = sweep_command(folder, {"masking": points}, *SHORT)
    ended = run(command, folder / "log", shell=f'cd "{folder}"; exec "$@"')
    if (failed := fault(ended, "12 hostile names")) is not None:
        return failed._replace(count=len(points))
    finished = len(list((folder / "sweep").glob("*/results.json")))
    if finished != len(points):
        return Trial(LOST, f"{finished} of {len(points)} runs are finished", len(points))
    return _nothing_made(folder, "12 hostile names", len(points))


def refused_names(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A sweep with a name that no folder can have: refused in one line, or made harmless."""
    name = REFUSED_NAMES[number % len(REFUSED_NAMES)]
    command = sweep_command(folder, {"masking": {name: {"seed": 1}}}, *SHORT)
    ended = run(command, folder / "log", shell=f'cd "{folder}"; exec "$@"')
    if (failed := fault(ended, repr(name), codes=(0, 2))) is not None:
        return failed
    return _nothing_made(folder, repr(name), 1)


def _nothing_made(folder: Path, what: str, count: int) -> Trial:
    outside = {path.name for path in folder.iterdir()} - {"sweep", "sweep.yaml", "log"}
    if outside or any(folder.rglob("made")):
        return Trial(SILENT, f"{what}: made {outside or 'made'}", count)
    return Trial(HELD, what, count)
