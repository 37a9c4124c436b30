"""Test sequences that are homologs of training sequences: aligned by MMseqs2, if it is installed.

Steinegger and Söding, Nature Biotechnology 2017. A homolog need not share many k-mers: near
duplicates (`cmgems.tasks.duplicates`) are the close ones among them.
"""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cmgems.errors import UserError
from cmgems.tasks.dataset import LabelledSequences

PROGRAM = "mmseqs"
K = "13"  # bases of the words that are looked up; the default of 15 takes 8 GB
MAX_E_VALUE = 1e-3
MIN_COVERAGE = 0.5  # of the test sequence, by one alignment


def find_homologs(train: LabelledSequences, test: LabelledSequences) -> np.ndarray | None:
    """Which test sequences align with a training sequence, on either strand.

    Returns
    -------
    bool [B] of the test sequences; None where MMseqs2 is not installed

    Raises
    ------
    UserError
        If MMseqs2 fails.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    with TemporaryDirectory() as name:
        folder = Path(name)
        _write_fasta(test, folder / "test.fa")
        _write_fasta(train, folder / "train.fa")
        # both strands; coverage of the query; only which of the queries has a hit is asked for
        options = ["--search-type", "3", "--strand", "2", "-e", str(MAX_E_VALUE)]
        options += [
            "-k",
            K,
            "-c",
            str(MIN_COVERAGE),
            "--cov-mode",
            "2",
            "--format-output",
            "query",
            "-v",
            "1",
        ]
        files = [folder / file for file in ("test.fa", "train.fa", "hits", "work")]
        done = subprocess.run(
            [program, "easy-search", *map(str, files), *options], capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stderr + done.stdout).strip().splitlines() or [""]
            raise UserError(
                f"{PROGRAM}: ended with exit code {done.returncode} ({said[-1]}), wanted an "
                f"MMseqs2 that searches nucleotides; check_leakage=false goes without"
            )
        found = np.zeros(len(test), bool)
        found[[int(line) for line in (folder / "hits").read_text().split()]] = True
        return found


def _write_fasta(data: LabelledSequences, path: Path) -> None:
    """Sequences by their numbers."""
    with open(path, "w", encoding="ascii") as handle:
        for row in range(len(data)):
            handle.write(f">{row}\n{data.text(row)}\n")
