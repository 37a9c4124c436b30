"""FASTA files as chunks of base codes: cut at line ends, contigs and faults named."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats import fasta_kernels
from cmgems.genome.formats.base import ByteStream, Segment, SequenceChunk, find_line
from cmgems.genome.formats.case import find_lower

CHUNK = 1 << 20  # bytes of text; smaller ones cost calls, larger ones leave the caches
_MAX_HEADERS = 4096


def read_fasta(
    path: Path, stream: ByteStream, with_case: bool = False, size: int = CHUNK
) -> Iterator[SequenceChunk]:
    """Chunks of at most `size` bytes of text, cut after a line end wherever there is one.

    The codes of a chunk are overwritten when the thread that asked for it asks for another.
    """
    text = bytearray(size + fasta_kernels.PAD)
    raw = np.frombuffer(text, np.uint8)
    buffers: dict[int, np.ndarray] = {}  # thread -> the codes of its chunk
    lower = np.empty(size // 64 + 2, np.uint64) if with_case else None
    headers = np.empty((_MAX_HEADERS, fasta_kernels.HEADER_COLUMNS), np.int64)
    tally = np.empty(fasta_kernels.TALLY_FIELDS, np.int64)
    offset = filled = 0  # offset of raw[0] in the text; number of bytes in raw
    mid_line, named = False, False
    while True:
        filled += _fill(stream, memoryview(text)[filled:size])
        if not filled:
            return
        cut = filled if filled < size else _cut(text, size, mid_line, path, offset)
        if (codes := buffers.get(threading.get_ident())) is None:
            codes = buffers[threading.get_ident()] = np.empty(size + fasta_kernels.PAD, np.uint8)
        fasta_kernels.convert(raw, cut, mid_line, codes, headers, tally)
        if tally[fasta_kernels.BAD] >= 0:
            raise UserError(_bad_byte(path, offset + int(tally[fasta_kernels.BAD])))
        used = int(tally[fasta_kernels.CONSUMED])
        segments = _segments(path, text, offset, headers, tally)
        if segments[0].stop > segments[0].start and not named:
            raise UserError(f"{path}: has sequence before the first header ('>')")
        named = named or len(segments) > 1
        written = int(tally[fasta_kernels.WRITTEN])
        if lower is not None:
            find_lower(raw, used, mid_line, codes, lower)
        yield SequenceChunk(
            codes[:written],
            [s for s in segments if s.name or s.stop > s.start],
            None if lower is None else lower[: -(-written // 64)],
        )
        mid_line = used > 0 and text[used - 1] != 10
        text[: filled - used] = text[used:filled]
        filled -= used
        offset += used


def _fill(stream: ByteStream, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := stream.readinto(view[filled:])):
        filled += count
    return filled


def _cut(text: bytearray, size: int, mid_line: bool, path: Path, offset: int) -> int:
    """Where to cut a full buffer: after its last line end, else anywhere but inside CR LF."""
    cut = text.rfind(b"\n", 0, size) + 1
    if cut:
        return cut
    if not mid_line and text[:1] == b">":
        raise UserError(f"{path}: the header at byte {offset} is longer than {size:,} bytes")
    return size - 1 if text[size - 1] == 13 else size


def _segments(
    path: Path, text: bytearray, offset: int, headers: np.ndarray, tally: np.ndarray
) -> list[Segment]:
    """The first segment continues the previous contig, each of the others begins one."""
    rows = headers[: int(tally[fasta_kernels.HEADERS])].tolist()
    ends = [*(r[fasta_kernels.HEADER_CODE] for r in rows), int(tally[fasta_kernels.WRITTEN])]
    n_counts = [0, *(r[fasta_kernels.HEADER_N] for r in rows), int(tally[fasta_kernels.N_COUNT])]
    iupac = [
        0,
        *(r[fasta_kernels.HEADER_IUPAC] for r in rows),
        int(tally[fasta_kernels.IUPAC_COUNT]),
    ]
    segments = [Segment(None, 0, ends[0], n_counts[1], iupac[1], "")]
    for i, row in enumerate(rows):
        at = offset + row[fasta_kernels.HEADER_START]
        name = _name(path, bytes(text[row[0] + 1 : row[1]]), at)
        segments.append(
            Segment(
                name,
                ends[i] + 1,
                ends[i + 1],
                n_counts[i + 2] - n_counts[i + 1],
                iupac[i + 2] - iupac[i + 1],
                at,
            )
        )
    return segments


def _name(path: Path, header: bytes, at: int) -> str:
    """The first word of a header, which is at byte `at` of the text."""
    if not header.strip() or header[:1].isspace():
        raise UserError(f"{path}: line {find_line(path, at)[0]} is a header without a name")
    name = header.split(None, 1)[0].decode("utf-8", "replace")
    if not name.isprintable() or "\ufffd" in name:
        line, _ = find_line(path, at)
        raise UserError(f"{path}: line {line}: the name {name!r} is not plain text")
    return name


def _bad_byte(path: Path, at: int) -> str:
    line, value = find_line(path, at)
    return f"{path}: line {line}, byte {at} is {_describe(value)}"


def _describe(value: int) -> str:
    char = chr(value)
    wanted = "wanted: A C G T U N or another IUPAC nucleotide code"
    if char == ">":
        return "'>' in the middle of a line; is a line end missing where two files were joined?"
    if char in "EeFfIiJjLlOoPpQqXxZz*":
        return f"{char!r}, which is not a nucleotide; is this a protein? {wanted}"
    if char in "-.":
        return f"{char!r}, a gap of an alignment; remove the gaps; {wanted}"
    if char == "\r":
        return "a carriage return without a line feed; wanted: lines that end with LF or CR LF"
    shown = repr(char) if 32 < value < 127 else {32: "a space", 9: "a tab", 0: "NUL"}.get(value)
    return f"{shown or f'0x{value:02X}'}; {wanted}"
