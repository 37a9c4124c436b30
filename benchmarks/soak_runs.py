"""Trials of the soak with runs: kills, signals, several processes, bare surroundings, sweeps."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import yaml
from soak_processes import Child, Ended, die_at_operation, differences, fingerprint, run
from soak_trials import HELD, LOST, SILENT, TRACEBACK, Trial

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
BASE = EXPERIMENTS / "pretrain/base.yaml"
TINY = [
    "train.global_batch_size=4",
    "train.log_every_n_steps=1",
    "train.accelerator=cpu",
    "train.max_steps=12",
    "validation.every_n_steps=3",
    "validation.windows=8",
    "validation.final_windows=40",
    "optim.warmup_steps=2",
    "data.window_length=128",
    "model.hidden_size=32",
    "model.num_heads=2",
    "model.intermediate_size=64",
]
CASES = {
    "plain": ["curriculum.strategies=[random]"],
    "plateau": [
        "curriculum.schedule=plateau",
        "curriculum.strategies=[random,genemask]",
        "curriculum.plateau.rule=paper",
        "curriculum.plateau.threshold=1e9",
    ],
    "cm_step": ["curriculum.schedule=linear", "curriculum.strategies=[random,global_pmi]"],
    "loss_adaptive": ["curriculum.strategies=[loss_adaptive]"],
    "ramps": [
        "curriculum.strategies=[random]",
        "curriculum.ramps.mask_ratio={schedule: linear, end: 0.3}",
    ],
    "probes": [
        "curriculum.strategies=[random]",
        "probe.every_n_steps=3",
        "probe.tasks=[shuffled]",
        "probe.shots=4",
    ],
    "dropout": ["curriculum.strategies=[random]", "model.dropout=0.1"],
}
LAYOUTS = {
    "single": ["train.micro_batch_size=4"],
    "accumulated": ["train.micro_batch_size=2"],
    "two ranks": ["train.micro_batch_size=2", "train.devices=2"],
}
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
SHELLS = {
    "64 open files": 'ulimit -n 64; exec "$@"',
    "no HOME": 'unset HOME; exec "$@"',
    "no TMPDIR": 'export TMPDIR=/nonexistent; exec "$@"',
    "closed output": 'exec "$@" >&- 2>&-',
    "1 MB of /dev/shm": 'mount -t tmpfs -o size=1m none /dev/shm; exec "$@"',
}


def arguments(case: str, layout: str, folder: Path) -> list[str]:
    """Of `cmgems pretrain`, which begins the run or resumes it."""
    resume = [f"run.resume={str(folder.exists()).lower()}", f"run.dir={folder}"]
    return ["pretrain", str(BASE), *TINY, *CASES[case], *LAYOUTS[layout], *resume]


def reference(case: str, layout: str, folder: Path) -> tuple[dict, float]:
    """The fingerprint of the run that nothing disturbs, and its seconds; computed once."""
    kept = folder.parent / "references" / f"{case}-{layout}.json".replace(" ", "_")
    if not kept.exists():
        path = folder.parent / "references/run"
        shutil.rmtree(path, ignore_errors=True)
        for _ in range(2):  # the second is timed: caches are full
            shutil.rmtree(path, ignore_errors=True)
            before = os.times().elapsed
            ended = run(
                arguments(case, layout, path),
                folder.parent / "references/log",
                fresh=layout == "two ranks",
            )
            if ended.code:
                raise RuntimeError(f"{case}, {layout}: {ended.text[-2000:]}")
        content = [fingerprint(path), os.times().elapsed - before]
        kept.write_text(json.dumps(content))
    wanted, seconds = json.loads(kept.read_text())
    return wanted, seconds


def judge(ended: Ended, path: Path, wanted: dict, what: str) -> Trial:
    """Whether a run that went on to its end is the undisturbed one."""
    if ended.has_traceback:
        return Trial(TRACEBACK, f"{what}: {ended.last_line}")
    if ended.code:
        return Trial(LOST, f"{what}: code {ended.code}, {ended.last_line}")
    differ = differences(json.loads(json.dumps(fingerprint(path))), wanted)
    return Trial(SILENT, f"{what}: other {differ}") if differ else Trial(HELD, what)


def kills(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """SIGKILL at random times, up to three times, then to the end."""
    case = list(CASES)[number % len(CASES)]
    layout = list(LAYOUTS)[number // len(CASES) % len(LAYOUTS)]
    wanted, seconds = reference(case, layout, folder)
    path, fresh = folder / "run", layout == "two ranks"
    for part in range(int(rng.integers(1, 4))):
        child = Child(arguments(case, layout, path), folder / f"log{part}", fresh=fresh)
        child.wait(rng.uniform(0, seconds))
        child.send(signal.SIGKILL)
        child.finish() if child.wait(0.1) is None else None
    ended = run(arguments(case, layout, path), folder / "log", fresh=fresh)
    return judge(ended, path, wanted, f"{case}, {layout}")


def signals(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A signal at a random time: its exit code, no traceback, and the run goes on."""
    wanted, seconds = reference("dropout", "single", folder)
    chosen = list(SIGNALS)[number % len(SIGNALS)]
    path, what = folder / "run", chosen.name
    child = Child(arguments("dropout", "single", path), folder / "log0")
    child.wait(rng.uniform(0.3, seconds))
    child.send(chosen)
    stopped = child.finish()
    if stopped.has_traceback:
        return Trial(TRACEBACK, f"{what}: {stopped.last_line}")
    if stopped.code not in (0, SIGNALS[chosen]):
        return Trial(LOST, f"{what}: exit code {stopped.code}, {stopped.last_line}")
    return judge(run(arguments("dropout", "single", path), folder / "log"), path, wanted, what)


def several(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """Three processes at one run folder: one computes it, the others are refused in one line."""
    wanted, _ = reference("plain", "single", folder)
    path = folder / "run"
    children = [Child(arguments("plain", "single", path), folder / f"log{n}") for n in range(3)]
    ended = [child.finish() for child in children]
    for one in ended:
        if one.has_traceback:
            return Trial(TRACEBACK, one.last_line)
        if one.code not in (0, 2):
            return Trial(LOST, f"code {one.code}: {one.last_line}")
    return judge(run(arguments("plain", "single", path), folder / "log"), path, wanted, "three")


def surroundings(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """A run where something is missing that machines usually have."""
    wanted, _ = reference("plain", "single", folder)
    name = list(SHELLS)[number % len(SHELLS)]
    shell = SHELLS[name]
    if "mount" in shell:
        shell = f"exec unshare -m bash -c '{shell}' bash \"$@\""
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            return None  # it takes root
    path = folder / "run"
    return judge(
        run(arguments("plain", "single", path), folder / "log", shell=shell), path, wanted, name
    )


HOSTILE_NAMES = (
    "$(touch made)",
    "a;touch made",
    "`touch made`",
    "'\"",
    "a b",
    "../up",
    "-rf",
    "a\nb",
)


def sweep_names(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A sweep with shell metacharacters in a name: run, or refused in one line."""
    name = HOSTILE_NAMES[number % len(HOSTILE_NAMES)]
    points = {name: {"curriculum.strategies": ["random"]}, "plain": {"seed": 1}}
    content = {"base": str(BASE), "axes": {"masking": points}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    overrides = [*TINY, *LAYOUTS["single"], "train.max_steps=3", f"dir={folder / 'sweep'}"]
    shell = f'cd "{folder}"; exec "$@"'
    ended = run(["sweep", str(folder / "sweep.yaml"), *overrides], folder / "log", shell=shell)
    if ended.has_traceback:
        return Trial(TRACEBACK, f"{name!r}: {ended.last_line}")
    outside = {path.name for path in folder.iterdir()} - {"sweep", "sweep.yaml", "log"}
    if outside or any(folder.rglob("made")):
        return Trial(SILENT, f"{name!r}: made {outside or 'made'}")
    return Trial(HELD if ended.code in (0, 2) else LOST, f"{name!r}: {ended.last_line}")


def sweeps(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """SIGKILL of a sweep just before its n-th change of a file, then the same sweep again."""
    wanted, _ = reference("plain", "single", folder)
    content = {
        "base": str(BASE),
        "axes": {"seed": [0]},
        "set": {"curriculum.strategies": ["random"]},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    out, at = folder / "sweep", number + 1
    command = ["sweep", str(folder / "sweep.yaml"), *TINY, *LAYOUTS["single"], f"dir={out}"]
    if run(command, folder / "log0", before=die_at_operation(at, out)).code == 0:
        return None
    ended = run(command, folder / "log")
    (path,) = (path for path in out.iterdir() if (path / "config.yaml").exists())
    return judge(ended, path, wanted, f"operation {at} of a sweep")


def operations(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """SIGKILL just before the n-th change of a file, then the same command again."""
    path, at = folder / "run", number + 1
    wanted, _ = reference("plateau", "accumulated", folder)
    command = arguments("plateau", "accumulated", path)
    if run(command, folder / "log0", before=die_at_operation(at, path)).code == 0:
        return None  # it has fewer
    ended = run(arguments("plateau", "accumulated", path), folder / "log")
    return judge(ended, path, wanted, f"operation {at} of a run")
