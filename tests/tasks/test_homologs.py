"""What MMseqs2 is asked and how its answer is read; where it is installed, what it finds."""

import os
import shutil

import numpy as np
import pytest
from helpers.labelled_samples import random_sequences

from cmgems.errors import UserError
from cmgems.tasks.audit import audit_splits, audit_table
from cmgems.tasks.dataset import from_sequences
from cmgems.tasks.homologs import PROGRAM, find_homologs

OTHER = str.maketrans("ACGT", "TGCA")


def split(sequences):
    return from_sequences(sequences, np.arange(len(sequences)) % 2)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a script in the place of MMseqs2; what it is given is kept in `given`."""

    def replace(script):
        (tmp_path / PROGRAM).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / PROGRAM).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return tmp_path / "given"

    return replace


def test_both_splits_are_given_and_each_hit_counts_once(program):
    given = program('cat "$2" "$3" > "$(dirname "$0")/given"; printf "2\\n0\\n2\\n" > "$4"')
    train, test = split(["ACGTN", "GGGG"]), split(["AAAA", "CCCC", "TTTT"])
    assert find_homologs(train, test).tolist() == [True, False, True]
    assert given.read_text() == ">0\nAAAA\n>1\nCCCC\n>2\nTTTT\n>0\nACGTN\n>1\nGGGG\n"
    assert "homolog of train (MMseqs2)        2 of 3 (66.67 %)" in audit_table(
        audit_splits(train, test, ("no", "yes"))
    )


def test_a_program_that_fails_is_one_line(program):
    program("echo reads >&2; echo no nucleotides >&2; exit 3")
    with pytest.raises(
        UserError, match=r"^mmseqs: ended with exit code 3 \(no nucleotides\), wanted"
    ):
        find_homologs(split(["ACGT"] * 2), split(["ACGT"] * 2))


def test_without_the_program_the_table_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    sequences = split(["ACGT", "GGGG"])
    audit = audit_splits(sequences, sequences, ("no", "yes"))
    assert audit.homologs is None
    assert "mmseqs is not installed" in audit_table(audit)


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="MMseqs2 is not installed")
def test_homologs_of_each_kind_are_found():
    """As they are, on the other strand, a fifth of their bases changed, two thirds of them."""
    generator = np.random.default_rng(0)
    train, strangers = random_sequences(40, 300, seed=1), random_sequences(10, 300, seed=2)

    def changed(text):
        return "".join(
            "ACGT"[generator.integers(4)] if generator.random() < 0.2 else base for base in text
        )

    test = [
        train[0],
        train[1].translate(OTHER)[::-1],
        changed(train[2]),
        changed(train[3].translate(OTHER)[::-1]),
        train[4][:200] + strangers[0][:100],
        train[5][:80] + strangers[1][:220],  # too short a part
        "N" * 300,
        *strangers[2:],
    ]
    assert np.flatnonzero(find_homologs(split(train), split(test))).tolist() == [0, 1, 2, 3, 4]
