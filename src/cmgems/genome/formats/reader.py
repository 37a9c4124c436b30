"""Sequence files, whatever their format, as one stream of chunks of base codes.

The format is recognized by the first bytes, never by the name. FASTA (plain, gzip, bgzip) and 2bit
are read by code of this package, GenBank and EMBL by Biopython.
"""

from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.base import (
    WANTED,
    ByteStream,
    PlainStream,
    SequenceChunk,
    open_source,
)
from cmgems.genome.formats.bgzip import GzipStream
from cmgems.genome.formats.fasta import read_fasta
from cmgems.genome.formats.genbank import read_flat_file
from cmgems.genome.formats.twobit import SIGNATURES, read_twobit
from cmgems.utils.files import is_gzip

# First bytes of what is given by mistake, and what the message says of it.
_FOREIGN_FORMATS = (
    (b"\xef\xbb\xbf", "begins with a byte-order mark (UTF-8); save it as plain ASCII"),
    (b"\xff\xfe", "begins with a byte-order mark (UTF-16); save it as plain ASCII"),
    (b"\xfe\xff", "begins with a byte-order mark (UTF-16); save it as plain ASCII"),
    (b"BZh", "is packed with bzip2; unpack it or pack it with gzip"),
    (b"\xfd7zXZ", "is packed with xz; unpack it or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it or pack it with gzip"),
    (b"PK\x03\x04", "is a zip archive; unpack it or pack the FASTA with gzip"),
    (b"CRAM", "is a CRAM file"),
    (b"\x93NUMPY", "is a NumPy array"),
)


def read_chunks(
    path: Path, advance: Callable[[int], object] = lambda n: None, with_case: bool = False
) -> Iterator[SequenceChunk]:
    """The sequence of a file in chunks of a few megabytes.

    The codes of a chunk are overwritten when the thread that asked for it asks for another.

    Parameters
    ----------
    path : a FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL file
    advance : called with the number of bytes of the file that were read since the last call
    with_case : whether chunks of FASTA and 2bit say which bases are soft-masked

    Raises
    ------
    UserError
        If the file cannot be read, is of another format, is damaged, or has no sequence.
    """
    has_sequence = False
    with open_source(path) as handle:
        head = handle.read(8192)
        if not head:
            raise UserError(f"{path}: is empty; {WANTED}")
        handle.seek(0)
        for chunk in _read(path, handle, head, advance, with_case):
            has_sequence = has_sequence or any(s.name is not None for s in chunk.segments)
            yield chunk
    if not has_sequence:
        raise UserError(f"{path}: has no sequence; {WANTED}")


class Sequence(NamedTuple):
    """A whole sequence of a file."""

    name: str
    codes: np.ndarray  # uint8 base codes


def read_sequences(path: Path) -> Iterator[Sequence]:
    """The sequences of a file in its order; only one at a time is in memory.

    Raises
    ------
    UserError
        See `read_chunks`.
    """
    name: str | None = None
    parts: list[np.ndarray] = []
    for chunk in read_chunks(path):
        for segment in chunk.segments:
            if segment.name is not None:
                if name is not None:
                    yield Sequence(name, np.concatenate(parts))
                name, parts = segment.name, []
            parts.append(chunk.codes[segment.start : segment.stop].copy())
    if name is not None:
        yield Sequence(name, np.concatenate(parts))


def _read(
    path: Path, handle: FileIO, head: bytes, advance: Callable[[int], object], with_case: bool
) -> Iterator[SequenceChunk]:
    if head[:4] in SIGNATURES:
        return read_twobit(path, handle, advance, with_case)
    if not is_gzip(head):
        return _read_text(path, PlainStream(handle, advance), head, with_case)
    stream = GzipStream(path, handle, advance)
    head = stream.peek(8192)
    if not head:
        raise UserError(f"{path}: is empty once unpacked; {WANTED}")
    return _read_text(path, stream, head, with_case)


def _read_text(
    path: Path, stream: ByteStream, head: bytes, with_case: bool
) -> Iterator[SequenceChunk]:
    for magic, sentence in _FOREIGN_FORMATS:
        if head.startswith(magic):
            raise UserError(f"{path}: {sentence}; {WANTED}")
    text = head.lstrip(b"\r\n")
    if text.startswith((b"LOCUS ", b"ID   ")):
        return read_flat_file(path, stream, "genbank" if text[:5] == b"LOCUS" else "embl")
    if text and not text.startswith(b">"):
        raise UserError(f"{path}: {_no_header(text)}; {WANTED}")
    return read_fasta(path, stream, with_case)


def _no_header(text: bytes) -> str:
    if text.startswith(b"@"):
        return "is FASTQ (begins with '@')"
    if text.lstrip().startswith(b"<"):
        return "is HTML or XML (begins with '<'); was a web page saved in place of the file?"
    if b"\0" in text:
        return f"is a binary file that is not known here (begins with {text[:8]!r})"
    line = text.split(b"\n", 1)[0][:40].rstrip(b"\r").decode("ascii", "backslashreplace")
    return f"has no header: a FASTA file begins with '>', found {line!r}"
