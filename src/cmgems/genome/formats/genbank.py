"""GenBank and EMBL files, parsed by Biopython, as chunks of base codes."""

import io
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.formats import fasta_kernels
from cmgems.genome.formats.base import ByteStream, Segment, SequenceChunk

if TYPE_CHECKING:
    from Bio.SeqRecord import SeqRecord

# What Biopython's parsers raise on damaged files, and how they warn of files that were cut short.
_PARSE_ERRORS = (ValueError, AssertionError, IndexError, KeyError, TypeError, AttributeError)
_CUT_SHORT = ("Premature end", "Expected sequence length")


_END = b"//"  # the line that ends a record


class _RawStream(io.RawIOBase):
    """A `ByteStream` as the file object that Biopython reads.

    The last record of GenBank may lack its end marker, which tools and hands leave out: it gets
    one. A file that was cut short is still found out, by the length that the record declares.
    """

    def __init__(self, stream: ByteStream, file_format: str) -> None:
        self._stream, self._may_lack_end = stream, file_format == "genbank"
        self._last = b""  # the last bytes that were read, without what is blank behind them
        self._missing = b""  # what is still to be read of an end marker that the file lacks
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, view: bytearray | memoryview) -> int:  # type: ignore[override]  # Buffer is of 3.12
        buffer = memoryview(view).cast("B")
        count = self._stream.readinto(buffer) if not self._ended else 0
        if count:
            self._last = (self._last + bytes(buffer[max(count - 1024, 0) : count])).rstrip()[-4:]
            return count
        if not self._ended:
            self._ended = True
            if self._may_lack_end and not self._last.endswith(b"\n" + _END):
                self._missing = b"\n" + _END + b"\n"
        count = min(len(self._missing), len(buffer))
        buffer[:count], self._missing = self._missing[:count], self._missing[count:]
        return count


def read_flat_file(path: Path, stream: ByteStream, file_format: str) -> Iterator[SequenceChunk]:
    """One chunk per record. `file_format` is Biopython's name of it: genbank or embl."""
    for number, (name, letters) in enumerate(_records(path, stream, file_format), 1):
        yield _convert(path, number, name, letters)


def _records(path: Path, stream: ByteStream, file_format: str) -> Iterator[tuple[str, bytes]]:
    from Bio import SeqIO  # heavy, and most genomes are FASTA or 2bit

    text = io.TextIOWrapper(
        io.BufferedReader(_RawStream(stream, file_format), 1 << 20), encoding="utf-8"
    )
    records = SeqIO.parse(text, file_format)
    for number in itertools.count(1):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                record = next(records, None)
            if record is None:
                return
            letters = _letters(path, number, record)
        except _PARSE_ERRORS as error:
            raise UserError(f"{path}: record {number} is damaged: {_one_line(error)}") from error
        for warning in caught:
            # Biopython only warns of a file that was cut short
            if any(sign in str(warning.message) for sign in _CUT_SHORT):
                raise UserError(f"{path}: record {number} is damaged: {_one_line(warning.message)}")
        yield record.id or record.name, letters


def _letters(path: Path, number: int, record: "SeqRecord") -> bytes:
    from Bio.Seq import UndefinedSequenceError  # heavy, see above

    if record.seq is None:
        raise ValueError("it has no sequence")
    try:
        return bytes(record.seq)
    except UndefinedSequenceError as error:
        raise UserError(
            f"{path}: record {number} ({record.id}) has annotation but no sequence; wanted:"
            " the full record (GenBank calls it 'gbwithparts')"
        ) from error


def _one_line(error: Exception | Warning | str) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _convert(path: Path, number: int, name: str, letters: bytes) -> SequenceChunk:
    size = len(letters)
    raw = np.frombuffer(letters + bytes(fasta_kernels.PAD), np.uint8)
    codes = np.empty(size + 1 + fasta_kernels.PAD, np.uint8)
    codes[0] = AMBIGUOUS
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
