"""Trials of the soak with runs: kills, several processes, bare surroundings, 10,000 steps."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from soak_inputs import EXPERIMENTS, sequences
from soak_outcomes import HELD, LOST, SILENT, Trial
from soak_processes import (
    Child,
    Ended,
    die_at_operation,
    differences,
    fault,
    fingerprint,
    left_over,
    run,
)
from tqdm import tqdm

from cmgems.cli import main

BASE = EXPERIMENTS / "pretrain/base.yaml"
TINY = [
    "train.global_batch_size=4",
    "train.log_every_n_steps=1",
    "train.accelerator=cpu",
    "train.max_steps=12",
    "train.figures=false",
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
    "loss_adaptive": ["curriculum.strategies=[loss_adaptive]", "train.figures=true"],
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
KILLED_LAYOUTS = (*("single", "accumulated") * 4, "two ranks")  # those take long to start
SHORT = ["train.max_steps=4", "validation.every_n_steps=2"]


def arguments(case: str, layout: str, folder: Path, *overrides: str) -> list[str]:
    """Of `cmgems pretrain`, which begins the run or resumes it."""
    options = [*TINY, *CASES[case], *LAYOUTS[layout], *overrides]
    return ["pretrain", str(BASE), *options, "run.resume=auto", f"run.dir={folder}"]


def warm_up(folder: Path) -> None:
    """Import and compile in this process what a run needs, which forked ones have then.

    In one thread: a process that is forked from one with a pool of threads waits for them for ever.
    """
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # forked processes would lack its thread
    path = folder / "warm"
    shutil.rmtree(path, ignore_errors=True)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        main(arguments("plain", "single", path))
    shutil.rmtree(path)


def reference(case: str, layout: str, folder: Path, *overrides: str) -> tuple[dict, float]:
    """The fingerprint of the run that nothing disturbs, and its seconds; computed once."""
    place = reference_folder(case, layout, folder, *overrides)
    kept = place / "fingerprint.json"
    if not kept.exists():
        for _ in range(1 if (place.parent).exists() else 2):  # the first one of all fills the cache
            shutil.rmtree(place, ignore_errors=True)
            before = os.times().elapsed
            ended = run(arguments(case, layout, place / "run", *overrides), place / "log")
            if ended.code:
                raise RuntimeError(f"{case}, {layout}: {ended.text[-2000:]}")
        content = [fingerprint(place / "run"), os.times().elapsed - before]
        kept.write_text(json.dumps(content))
    wanted, seconds = json.loads(kept.read_text())
    return wanted, seconds


def reference_folder(case: str, layout: str, folder: Path, *overrides: str) -> Path:
    name = "-".join([case, layout, *overrides]).replace(" ", "_")
    return folder.parent / "references" / name


def judge(ended: Ended, path: Path, wanted: dict, what: str, count: int = 1) -> Trial:
    """Whether a run that went on to its end is the undisturbed one."""
    if (failed := fault(ended, what)) is not None:
        return failed._replace(count=count)
    differ = differences(json.loads(json.dumps(fingerprint(path))), wanted)
    if differ:
        return Trial(SILENT, f"{what}: other {differ}", count)
    return Trial(HELD, what, count)


def kills(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """Some SIGKILLs at random times, of all ranks or one of them, then to the end."""
    layout = KILLED_LAYOUTS[number % len(KILLED_LAYOUTS)]
    case = list(CASES)[number % len(CASES)]
    wanted, seconds = reference(case, layout, folder)
    path, landed = folder / "run", 0
    targets = ("group", "parent", "child") if layout == "two ranks" else ("group",)
    for part in range(int(rng.integers(3, 9))):
        child = Child(arguments(case, layout, path), folder / f"log{part}")
        if child.wait(rng.uniform(0, seconds)) is not None:
            continue  # it has ended before
        child.send(signal.SIGKILL, str(rng.choice(targets)))
        landed += 1
        if (ended := child.finish()).has_traceback:
            return judge(ended, path, wanted, f"{case}, {layout}, amid", landed)
        if left := left_over(folder):
            return Trial(LOST, f"{case}, {layout}: processes are left: {left}", landed)
    ended = run(arguments(case, layout, path), folder / "log")
    return judge(ended, path, wanted, f"{case}, {layout}", landed)


def operations(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """SIGKILL just before the n-th change of a file, then the same command again."""
    path, at = folder / "run", number + 1
    wanted, _ = reference("plateau", "accumulated", folder, *SHORT)
    command = arguments("plateau", "accumulated", path, *SHORT)
    if run(command, folder / "log0", before=die_at_operation(at, path)).code == 0:
        return None  # it has fewer
    return judge(run(command, folder / "log"), path, wanted, f"operation {at} of a run")


def several(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """Three processes at one run folder: one computes it, the others are refused in one line."""
    wanted, _ = reference("plain", "single", folder)
    path = folder / "run"
    children = [Child(arguments("plain", "single", path), folder / f"log{n}") for n in range(3)]
    for ended in [child.finish() for child in children]:
        if (failed := fault(ended, "three at one run", codes=(0, 2))) is not None:
            return failed
    return judge(run(arguments("plain", "single", path), folder / "log"), path, wanted, "three")


def swapped_genomes(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """The genome's file is another one when a run goes on: refused until it is back."""
    source, path = folder / "g.fa", folder / "run"
    first, second = (
        "".join(f">c{n}\n{s * 120}\n" for n, s in enumerate(sequences(rng, 3, 400)))
        for _ in range(2)
    )
    source.write_text(first)
    command = [*arguments("plain", "single", path), f"data.genome={source}"]
    undisturbed = [*arguments("plain", "single", folder / "whole"), f"data.genome={source}"]
    if (failed := fault(run(undisturbed, folder / "log0"), "undisturbed")) is not None:
        return failed
    run(command, folder / "log1", before=die_at_operation(int(rng.integers(45, 60)), path))
    source.write_text(second)
    ended = run(command, folder / "log2")
    if (failed := fault(ended, "another genome", codes=(2,))) is not None:
        return failed._replace(outcome=SILENT) if not ended.code else failed
    source.write_text(first)
    return judge(
        run(command, folder / "log"), path, fingerprint(folder / "whole"), "swapped genome"
    )


SHELLS = {
    "64 open files": 'ulimit -n 64; exec "$@"',
    "no HOME": 'unset HOME; exec "$@"',
    "no TMPDIR": 'export TMPDIR=/nonexistent; exec "$@"',
    "closed output": 'exec "$@" >&- 2>&-',
}


def surroundings(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A run where something is missing that machines usually have."""
    name = list(SHELLS)[number % len(SHELLS)]
    return _in_shell(SHELLS[name], name, folder)


def shared_memory(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """A run next to a /dev/shm of 1 MB; it takes root to make one."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        return None
    mount = 'mount -t tmpfs -o size=1m none /dev/shm; exec "$@"'
    shell = f"exec unshare -m bash -c '{mount}' bash \"$@\""
    return _in_shell(shell, "1 MB of /dev/shm", folder)


def _in_shell(shell: str, name: str, folder: Path) -> Trial:
    wanted, _ = reference("plain", "single", folder)
    path = folder / "run"
    ended = run(arguments("plain", "single", path), folder / "log", shell=shell)
    return judge(ended, path, wanted, name)


STEPS, LOGGED = 10_000, 50  # of a long run, and each so many of them are logged
GROWTH = 16 * 1024**2  # bytes of resident memory that the second half of a run may add


def endurance(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """Memory, open files and threads of a run of 10,000 steps: its second half adds none."""
    path = folder / "run"
    overrides = [f"train.max_steps={STEPS}", f"train.log_every_n_steps={LOGGED}"]
    overrides += [
        f"validation.every_n_steps={STEPS // 20}",
        "curriculum.strategies=[loss_adaptive]",
    ]
    child = Child(arguments("dropout", "single", path, *overrides), folder / "log")
    used: list[tuple[int, int, int]] = []
    while (ended := child.wait(0.5)) is None:
        # The evaluation at the end is another matter; the last steps are logged after it.
        is_training = 0 < _step(path / "metrics.csv") < STEPS - LOGGED
        if is_training and (now := _usage(child.pid)):
            used.append(now)
    if (failed := fault(ended, "10,000 steps")) is not None:
        return failed._replace(count=STEPS)
    half = len(used) // 2
    before, after = np.array(used[half // 2 : half]), np.array(used[half:])
    # Medians of files and threads, since one is open for as long as a checkpoint is written.
    growth = np.median(after, axis=0) - np.median(before, axis=0)
    growth[0] = after[:, 0].max() - before[:, 0].max()
    note = f"memory {growth[0] / 1024**2:+.1f} MB, files {growth[1]:+g}, threads {growth[2]:+g}"
    held = growth[0] < GROWTH and growth[1] <= 0 and growth[2] <= 0
    return Trial(HELD if held else LOST, note, STEPS)


def _step(path: Path) -> int:
    """The last step of `metrics.csv`, as far as it is written."""
    if not path.exists():
        return 0
    lines = path.read_text().rpartition("\n")[0].splitlines()
    return int(lines[-1].partition(",")[0]) if len(lines) > 1 else 0


def _usage(pid: int) -> tuple[int, int, int] | None:
    """Bytes of resident memory, open files and threads of a process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files, threads = (len(os.listdir(f"/proc/{pid}/{name}")) for name in ("fd", "task"))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None  # it has just ended
    return pages * os.sysconf("SC_PAGE_SIZE"), files, threads
