"""GenBank and EMBL files, parsed by Biopython, as pieces of base codes."""

import io
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats import fasta_kernels
from cmgems.genome.formats.base import Segment, SequenceChunk

# What Biopython's parsers raise on damaged files, and how they warn of files that were cut short.
_PARSE_ERRORS = (ValueError, AssertionError, IndexError, KeyError, TypeError, AttributeError)
_CUT_SHORT = ("Premature end", "Expected sequence length")


class _Bytes(io.RawIOBase):
    """A stream of ours as the file object that Biopython reads."""

    def __init__(self, stream):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, view) -> int:
        return self._stream.readinto(memoryview(view).cast("B"))


def read_flat_file(path: Path, stream, flavour: str) -> Iterator[SequenceChunk]:
    """One piece a record. `flavour` is Biopython's name of the format: genbank or embl."""
    for number, record in enumerate(_records(path, stream, flavour), 1):
        yield _piece(path, number, *record)


def _records(path: Path, stream, flavour: str) -> Iterator[tuple[str, bytes]]:
    from Bio import SeqIO
    from Bio.Seq import UndefinedSequenceError

    text = io.TextIOWrapper(io.BufferedReader(_Bytes(stream), 1 << 20), encoding="utf-8")
    records = SeqIO.parse(text, flavour)
    for number in itertools.count(1):
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                record = next(records, None)
            if record is None:
                return
            letters = bytes(record.seq)
        except UndefinedSequenceError as error:
            raise UserError(
                f"{path}: record {number} ({record.id}) has annotation but no sequence; wanted:"
                " the full record (GenBank calls it 'gbwithparts')"
            ) from error
        except _PARSE_ERRORS as error:
            raise UserError(f"{path}: record {number} is damaged: {_one_line(error)}") from error
        for warning in said:
            # Biopython only warns where a file was cut short
            if any(sign in str(warning.message) for sign in _CUT_SHORT):
                raise UserError(f"{path}: record {number} is damaged: {_one_line(warning.message)}")
        yield record.id or record.name, letters


def _one_line(error) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _piece(path: Path, number: int, name: str, letters: bytes) -> SequenceChunk:
    size = len(letters)
    raw = np.frombuffer(letters + bytes(fasta_kernels.PAD), np.uint8)
    codes = np.empty(size + 1 + fasta_kernels.PAD, np.uint8)
    codes[0] = fasta_kernels.OTHER
    tally = np.empty(fasta_kernels.TALLY_FIELDS, np.int64)
    headers = np.empty((1, fasta_kernels.HEADER_COLUMNS), np.int64)
    fasta_kernels.convert(raw, size, True, codes[1:], headers, tally)
    if tally[fasta_kernels.BAD] >= 0 or tally[fasta_kernels.WRITTEN] != size:
        at = int(tally[fasta_kernels.BAD])
        raise UserError(
            f"{path}: record {number} ({name}): base {at + 1} is {chr(letters[at])!r};"
            " wanted: A C G T U N or another IUPAC nucleotide code"
        )
    counts = int(tally[fasta_kernels.N_COUNT]), int(tally[fasta_kernels.IUPAC_COUNT])
    return SequenceChunk(
        codes[: size + 1], [Segment(name, 1, size + 1, *counts, f"record {number}")]
    )
