"""The soak: how cmgems takes kills, signals, damaged files and bare surroundings, in about an hour.

    make soak [SOAK=SECONDS]
    python benchmarks/soak.py --seconds 600 --folder runs/soak [--only kills,mutated]

Trials of all parts in turns, the part that is least far on next, each with random numbers of its
own. Every trial ends as held, lost (what should go on does not), silent (another result than
undisturbed, without a word) or traceback. Journal: trials.jsonl in the folder; run again, the soak
goes on with the next trials until all parts are complete. What was not held is in faults/. The
table goes to docs/reliability.md, between its markers.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from soak_files import (
    caches,
    changed_sources,
    exports,
    flipped_stores,
    four_at_a_store,
    stores,
)
from soak_inputs import mutated
from soak_outcomes import HELD, LOST, SILENT, TRACEBACK, Trial
from soak_runs import (
    STEPS,
    endurance,
    kills,
    operations,
    several,
    shared_memory,
    surroundings,
    swapped_genomes,
    warm_up,
)
from soak_sweeps import hostile_sweep, refused_names, signals, sweeps

ALL = 0
GUESS = 50  # trials of a part that has no number


class Part(NamedTuple):
    text: str  # what the table says
    wanted: int  # kills, inputs, ... to be tried; ALL: until there is no other
    trial: Callable[[int, np.random.Generator, Path], Trial | None]


PARTS = {
    "kills": Part(
        "SIGKILLs at random times of runs: single, accumulated, two ranks (all or one of them)",
        200,
        kills,
    ),
    "operations": Part("SIGKILL at each file operation of a run", ALL, operations),
    "caches": Part("... of a table through the cache", ALL, caches),
    "stores": Part("... of a store", ALL, stores),
    "exports": Part("... of an export", ALL, exports),
    "sweeps": Part("... of a sweep", ALL, sweeps),
    "signals": Part(
        "signals INT, TERM, HUP, USR1 to a run, the first of two ranks, the other, both, a sweep, "
        "its run",
        24,
        signals,
    ),
    "mutated": Part(
        "damaged sequences, labelled files, VCF, YAML, checkpoints, stores", 100_000, mutated
    ),
    "flipped": Part("flipped bits in a store", 100, flipped_stores),
    "changed": Part("a source that changes while it is read", 50, changed_sources),
    "swapped": Part("runs that go on with another genome in their file", 3, swapped_genomes),
    "several": Part("three processes at one run folder", 5, several),
    "four": Part("four processes at one store", 5, four_at_a_store),
    "surroundings": Part(
        "runs with 64 open files, no HOME, no TMPDIR, closed output", 4, surroundings
    ),
    "shared_memory": Part("runs with 1 MB of /dev/shm", 1, shared_memory),
    "hostile_sweep": Part(
        "runs of a sweep with shell metacharacters in their names", 12, hostile_sweep
    ),
    "refused_names": Part("names of runs that no folder can have", 7, refused_names),
    "endurance": Part(
        "steps of a run whose second half adds no memory, open files or threads", STEPS, endurance
    ),
}
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"
DOCS = Path(__file__).resolve().parent.parent / "docs/reliability.md"


class Journal:
    """All trials so far, a line each."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "trials.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text() if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a kill cuts a line off
        self.entries = [json.loads(line) for line in whole.splitlines()]
        self.path.write_text(whole)

    def add(self, part: str, number: int, seconds: float, trial: Trial | None) -> None:
        outcome = trial._asdict() if trial else {"outcome": "", "note": "", "count": 0}
        self.entries.append(
            {"part": part, "number": number, "seconds": round(seconds, 2), **outcome}
        )
        with open(self.path, "a") as handle:
            handle.write(json.dumps(self.entries[-1]) + "\n")

    def of(self, part: str) -> list[dict]:
        """The trials of a part."""
        return [entry for entry in self.entries if entry["part"] == part and entry["outcome"]]

    def tried(self, part: str) -> int:
        return sum(entry["count"] for entry in self.of(part))

    def is_complete(self, part: str) -> bool:
        wanted = PARTS[part].wanted
        exhausted = any(e["part"] == part and not e["outcome"] for e in self.entries)
        return exhausted or (bool(wanted) and self.tried(part) >= wanted)


def try_once(part: str, number: int, seed: int, folder: Path) -> Trial | None:
    """One trial in a process of its own: others are forked from this one, which has no threads."""
    place, answer = folder / "trial", folder / "trial.json"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            trial = PARTS[part].trial(number, np.random.default_rng(seed), place)
            answer.write_text(json.dumps(trial))
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    os.waitpid(child, 0)
    if not answer.exists():
        return Trial(LOST, "the trial itself failed; see the terminal")
    content = json.loads(answer.read_text())
    return Trial(*content) if content else None


def soak(seconds: float, folder: Path, parts: list[str]) -> Journal:
    """Trials until all parts are complete, or for so many seconds; the part least far on next."""
    journal, end = Journal(folder), time.monotonic() + seconds
    while time.monotonic() < end:
        todo = [part for part in parts if not journal.is_complete(part)]
        if not todo:
            break
        part = min(todo, key=lambda part: journal.tried(part) / (PARTS[part].wanted or GUESS))
        tried = {entry["number"] for entry in journal.of(part)}
        number = next(n for n in itertools.count() if n not in tried)
        begin = time.monotonic()
        trial = try_once(part, number, len(journal.entries), folder)
        journal.add(part, number, time.monotonic() - begin, trial)
        if trial and trial.outcome != HELD:
            print(f"{part} {number}: {trial.outcome}: {trial.note}", flush=True)
            kept = folder / "faults" / f"{part}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder / "trial", kept, symlinks=True)
        print(f"{part}: {_of_wanted(journal, part)}", flush=True)
    return journal


def _of_wanted(journal: Journal, part: str) -> str:
    wanted = PARTS[part].wanted
    return f"{journal.tried(part):,} of {f'{wanted:,}' if wanted else 'all'}"


def table(journal: Journal) -> str:
    """Markdown: per part what was tried, held, lost, silently wrong, or ended in a traceback."""
    faults = (LOST, SILENT, TRACEBACK)
    lines = [
        "| what | tried | held | lost | silent wrong outcomes | tracebacks |",
        "| --- |" + " ---: |" * 5,
    ]
    totals = np.zeros(5, int)
    for name, part in PARTS.items():
        tried = journal.tried(name)  # of a batch of inputs, all but the last one were held
        found = [sum(e["outcome"] == fault for e in journal.of(name)) for fault in faults]
        row = np.array([tried, tried - sum(found), *found])
        totals += row
        lines.append(f"| {part.text} | " + " | ".join(f"{x:,}" for x in row) + " |")
    lines += ["| all | " + " | ".join(f"{x:,}" for x in totals) + " |", ""]
    lines += [f"10,000 steps: {entry['note']}." for entry in journal.of("endurance")]
    short = [
        f"{part.text}: {_of_wanted(journal, name)}"
        for name, part in PARTS.items()
        if not journal.is_complete(name)
    ]
    lines += [f"Cut short: {'; '.join(short)}."] if short else []
    seconds = sum(entry["seconds"] for entry in journal.entries)
    return "\n".join([*lines, f"{seconds:,.0f} seconds of trials."])


def write_table(text: str, path: Path) -> None:
    """Put a text between the markers of a page."""
    page = path.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    args = parser.parse_args()
    folder = args.folder.absolute()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["CMGEMS_CACHE"] = str(folder / "cache")
    if args.seconds:
        warm_up(folder)
    journal = soak(args.seconds, folder, args.only.split(","))
    text = table(journal)
    print(text)
    if set(args.only.split(",")) == set(PARTS):
        write_table(text, DOCS)
    return int(any(e["outcome"] not in ("", HELD) for e in journal.entries))


if __name__ == "__main__":
    sys.exit(main())
