"""The commands of README.md and docs/quickstart.md, line by line, as somebody new would type them.

`make newcomer` runs this in a fresh clone with an empty home. Files that a line takes for granted
(`chr20.fa`, `calls.vcf`) are made from the sample genome. A line that takes hours is cut short by
keys that are added to it, one that cannot run is named; both say why.
"""

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import cmgems

PAGES = ("README.md", "docs/quickstart.md")
# pattern of a line -> why it is not run
SKIPPED = {
    r"^make test$": "what every change has to pass; it comes last",
    r"^make tensorboard$": "serves pages until it is stopped",
    r"^source ": "the commands of the environment are found without",
    r"\bCLASSIFIER\b": "stands for a classifier that evaluate has saved",
    r"tasks\.root=data$": "needs published files, which `cmgems data get fewshot` fetches",
    r"^pip install 'cmgems\[": "needs a registry that has cmgems",
}
# pattern of a line -> why it is cut short; the keys below are added to it
CUT = {
    r"^cmgems pretrain ": "hours on two cores, or a GPU",
    r"^make pretrain ARGS=": "some minutes more, on other DNA",
    r"^cmgems sweep ": "24 runs, hours on two cores",
}
SHORT = (
    "train.max_steps=20",
    "optim.warmup_steps=2",
    "train.global_batch_size=4",
    "train.micro_batch_size=2",
    "validation.every_n_steps=10",
    "validation.windows=8",
    "validation.final_windows=32",
    "validation.judge_windows=8",
    "data.window_length=128",
)


class Line(NamedTuple):
    """A command as a page has it, and what is run in its stead; empty for nothing."""

    page: str
    text: str
    run: str
    why: str


def read_lines(root: Path) -> list[Line]:
    """The commands of all shell blocks, in order, with what becomes of each."""
    lines = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", (root / page).read_text(), re.DOTALL):
            for text in block.replace("\\\n", " ").splitlines():
                text = text.split(" #")[0].strip()
                lines.append(Line(page, text, *plan(text)))
    return lines


def plan(text: str) -> tuple[str, str]:
    """What is run for a line, and why that is not the line as it is."""
    for pattern, why in SKIPPED.items():
        if re.search(pattern, text):
            return "", why
    for pattern, why in CUT.items():
        if re.search(pattern, text):
            keys = [f"set.{key}" for key in SHORT] if " sweep " in text else SHORT
            if text.endswith('"'):
                return f'{text[:-1]} {" ".join(keys)}"', why
            return f"{text} {' '.join(keys)}", why
    return text, ""


def make_stand_ins(folder: Path) -> None:
    """The files that lines name: human DNA, sequences of it and a variant on it."""
    codes = np.asarray(cmgems.load_genome("sample").codes[:1_000_000])
    bases = np.frombuffer(b"ATCGN", np.uint8)[codes].tobytes().decode()
    fasta = f">chr20\n{bases}\n"
    for name in ("chr20.fa", "hg38.fa"):
        (folder / name).write_text(fasta)
    (folder / "hg38.fa.gz").write_bytes(gzip.compress(fasta.encode(), compresslevel=1))
    (folder / "promoters.fa").write_text(f">one\n{bases[1000:1200]}\n>two\n{bases[5000:5200]}\n")
    other = "A" if bases[50_000] != "A" else "C"
    (folder / "calls.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"chr20\t50001\t.\t{bases[50_000]}\t{other}\t.\t.\t.\n"
    )


def make_room(text: str, folder: Path) -> None:
    """Lines are alternatives: what an earlier one has written where this one writes goes away."""
    if "pretrain" not in text or "run.resume" in text:
        return
    words = shlex.split(text.replace('ARGS="', "").replace('"', ""))
    given = [word.partition("=")[2] for word in words if word.startswith("run.dir=")]
    names = [Path(word).stem for word in words if word.endswith(".yaml")] or ["quickstart"]
    shutil.rmtree(folder / (given or [f"runs/{names[0]}"])[0], ignore_errors=True)


def check_promises(folder: Path) -> list[str]:
    """What the README says of the first run and is not so."""
    results = json.loads((folder / "runs/quickstart/results.json").read_text())
    less = results["hidden_bases"]["strata"]["all"]["model_less"]
    return [
        f"README.md: the first run ends below {name}; found {less[name]['mean']:+.3f} bits"
        for name in ("composition", "markov")
        if not less[name]["mean"] < 0
    ]


def main() -> int:
    folder = Path.cwd()
    failures, seen = [], set()
    make_stand_ins(folder)
    for line in read_lines(folder):
        if line.text in seen:
            continue  # a page repeats what another has
        seen.add(line.text)
        if not line.run:
            print(f"not run  {line.text}  ({line.why})", flush=True)
            continue
        make_room(line.run, folder)
        start = time.perf_counter()
        done = subprocess.run(["bash", "-c", line.run], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        cut = f"  (cut short: {line.why})" if line.why else ""
        outcome = "failed" if done.returncode else "ran"
        print(f"{outcome:<7}  {line.text}  {seconds:.0f} s{cut}", flush=True)
        if done.returncode:
            failures.append(f"{line.page}: {line.text}\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    failures += check_promises(folder)
    print("\n".join(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
