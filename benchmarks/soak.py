"""The soak: how cmgems takes kills, signals, damaged files and bare surroundings, for an hour.

    make soak [SOAK=SECONDS]
    python benchmarks/soak.py --seconds 600 --folder runs/soak [--only kills,mutated]

Trials of all parts in turns, the part with the least time so far next, each with random numbers of
its own. Every trial ends as held, lost (what should go on does not), silent (another result than
undisturbed, without a word) or traceback. Journal: trials.jsonl in the folder; run again, the soak
goes on with the next trials and counts those before, until all together took the seconds. Inputs
that were not held are in faults/. The table goes to docs/reliability.md, between its markers.
"""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from soak_runs import (
    kills,
    operations,
    several,
    signals,
    surroundings,
    sweep_names,
    sweeps,
)
from soak_trials import (
    HELD,
    LOST,
    SILENT,
    TRACEBACK,
    Trial,
    caches,
    exports,
    flipped_stores,
    four_at_a_store,
    mutated,
    stores,
)

PARTS: dict[str, tuple[str, float, Callable[..., Trial | None]]] = {
    # name: (what the table says, share of the time, one trial)
    "kills": ("SIGKILLs at random times of a run, up to three each", 6, kills),
    "operations": ("SIGKILL at each file operation of a run", 4, operations),
    "stores": ("... of a store that is built", 0.5, stores),
    "caches": ("... of a table through the cache", 1, caches),
    "exports": ("... of an export", 0.5, exports),
    "sweeps": ("... of a sweep", 2, sweeps),
    "signals": ("signals INT, TERM, HUP, USR1 to a run", 2, signals),
    "mutated": ("damaged sequences, tables, VCF, YAML, checkpoints", 3, mutated),
    "flipped": ("flipped bits in a store", 0.3, flipped_stores),
    "several": ("three processes at one run folder", 0.5, several),
    "four": ("four processes at one store", 0.3, four_at_a_store),
    "surroundings": (
        "64 open files, no HOME, no TMPDIR, closed output, 1 MB of /dev/shm",
        1,
        surroundings,
    ),
    "sweep_names": ("shell metacharacters in names of a sweep", 1, sweep_names),
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

    def seconds(self, part: str = "") -> float:
        return sum(e["seconds"] for e in self.entries if part in ("", e["part"]))

    def next_number(self, part: str) -> int:
        """Of the next trial; from 0 again once all file operations of a command had a kill."""
        number = 0
        for entry in self.entries:
            if entry["part"] == part:
                number = entry["number"] + 1 if entry["outcome"] else 0
        return number


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
            trial = PARTS[part][2](number, np.random.default_rng(seed), place)
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
    """Trials until all of the journal took so many seconds."""
    journal = Journal(folder)
    os.environ["CMGEMS_CACHE"] = str(folder / "cache")
    while journal.seconds() < seconds:
        part = min(parts, key=lambda name: journal.seconds(name) / PARTS[name][1])
        number, begin = journal.next_number(part), time.monotonic()
        trial = try_once(part, number, len(journal.entries), folder)
        journal.add(part, number, time.monotonic() - begin, trial)
        if trial and trial.outcome != HELD:
            print(f"{part} {number}: {trial.outcome}: {trial.note}", flush=True)
            if trial.outcome != TRACEBACK or part != "mutated":
                keep = folder / "faults" / f"{part}-{number}"
                shutil.rmtree(keep, ignore_errors=True)
                shutil.copytree(folder / "trial", keep, symlinks=True)
    return journal


def table(journal: Journal) -> str:
    """Markdown: per part what was tried, held, lost, silently wrong, or ended in a traceback."""
    columns = (HELD, LOST, SILENT, TRACEBACK)
    lines = [
        "| what | tried | held | lost | silent wrong outcomes | tracebacks |",
        "| --- |" + " ---: |" * 5,
    ]
    totals = np.zeros(5, int)
    for name, (text, _, _) in PARTS.items():
        entries = [e for e in journal.entries if e["part"] == name and e["outcome"]]
        # of a batch of inputs, all but the last one were held
        tried = sum(e["count"] for e in entries)
        faults = [sum(e["outcome"] == column for e in entries) for column in columns[1:]]
        row = np.array([tried, tried - sum(faults), *faults])
        totals += row
        lines.append(f"| {text} | " + " | ".join(f"{x:,}" for x in row) + " |")
    lines.append("| all | " + " | ".join(f"{x:,}" for x in totals) + " |")
    return "\n".join(lines) + f"\n\n{journal.seconds():,.0f} seconds of trials."


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
    journal = soak(args.seconds, folder, args.only.split(","))
    text = table(journal)
    print(text)
    if set(args.only.split(",")) == set(PARTS):
        write_table(text, DOCS)
    return int(any(e["outcome"] not in ("", HELD) for e in journal.entries))


if __name__ == "__main__":
    sys.exit(main())
