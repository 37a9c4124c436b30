"""FASTA bytes to base codes: one pass over memory, in compiled code.

Contract
--------
raw : uint8 [n + PAD]    bytes of a FASTA file; the last PAD bytes may hold anything
codes : uint8            A T C G = 0 1 2 3 (either case; U is T), everything else 4;
                         each contig is preceded by one code 4, so no k-mer joins two contigs

A letter of the IUPAC nucleotide code that is not A C G T U becomes 4 and is counted; any other
byte stops the pass and is reported with its offset, so nothing is ever guessed.

Why it is as fast as memory: the lines of a FASTA file have one width, so the end of a line is
known before it is read; 64 bytes are converted at a time, as one vector, by comparisons, which a
table lookup per byte cannot be. The last group of a line overruns into the next line; that line
then overwrites the overrun. A line that is not as expected (the first, the last, a ragged one, one
with IUPAC codes) takes a path that looks at each byte.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.formats.vectors import all_lanes, pointer_64
from cmgems.utils.kernels import intrinsic, kernel

PAD = 64

_LF, _CR, _GT, _N = 10, 13, 62, 78
# Classes of a byte beyond the codes 0..4; nothing but _BAD has the bit of 8.
_IUPAC, _END, _RETURN, _BAD = 5, 6, 7, 8


def _byte_classes() -> np.ndarray:
    classes = np.full(256, _BAD, np.uint8)
    for letters, value in (("Aa", 0), ("TtUu", 1), ("Cc", 2), ("Gg", 3), ("Nn", AMBIGUOUS)):
        classes[list(letters.encode())] = value
    classes[list(b"RYSWKMBDHVryswkmbdhv")] = _IUPAC
    classes[_LF], classes[_CR] = _END, _RETURN
    return classes


BYTE_CLASSES = _byte_classes()

# Columns of the table of headers that `convert` fills.
HEADER_START, HEADER_END, HEADER_CODE, HEADER_N, HEADER_IUPAC = range(5)
HEADER_COLUMNS = 5
# Fields of the tally that `convert` fills.
CONSUMED, WRITTEN, HEADERS, N_COUNT, IUPAC_COUNT, BAD = range(6)
TALLY_FIELDS = 6


@intrinsic
def _convert_64(
    typing_context: Any, raw: types.Type, p: types.Type, out: types.Type, o: types.Type
) -> tuple[Any, Callable[..., Any]]:
    """Write the classes of raw[p:p+64], of 0 1 2 3 AMBIGUOUS _BAD, to out[o:o+64].

    Returns two uint64 with one bit per byte, lowest first: which are not A C G T, and which of them
    are not N either. The latter are _BAD here, IUPAC codes and line ends among them: the caller
    knows where the line ends, and looks at the rest again.

    It is written as one operation on a vector of 64 bytes, since small changes of the code around
    a loop of numba decide whether it is vectorized (measured: 12 times slower if not). LLVM splits
    the operation into the vectors that the machine has.
    """
    signature = types.UniTuple(types.uint64, 2)(raw, p, out, o)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        letters = builder.load(pointer_64(context, builder, signature, arguments, 0), align=1)
        upper = builder.and_(letters, all_lanes(0xDF))  # no other byte becomes one of the letters
        codes = all_lanes(_BAD)
        for letter, code in zip(b"NACGT", (AMBIGUOUS, 0, 2, 3, 1), strict=True):
            equal = builder.icmp_unsigned("==", upper, all_lanes(letter))
            codes = builder.select(equal, all_lanes(code), codes)
        builder.store(codes, pointer_64(context, builder, signature, arguments, 2), align=1)
        bits = [
            builder.bitcast(builder.icmp_unsigned(">=", codes, all_lanes(least)), ir.IntType(64))
            for least in (AMBIGUOUS, _BAD)
        ]
        return context.make_tuple(builder, signature.return_type, bits)

    return signature, codegen


@intrinsic
def _count_ones(typing_context: Any, bits: types.Type) -> tuple[Any, Callable[..., Any]]:
    """The number of bits that are set."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), codegen


@kernel
def _convert_regular_lines(
    raw: np.ndarray, n: int, p: int, out: np.ndarray, o: int, width: int, ending: int
) -> tuple[int, int, int]:
    """Convert lines of `width` bases and `ending` bytes of line end, up to the first other line.

    Returns the offsets after the last such line, and the N counted.
    """
    n_count = 0
    last = width + ending - 1
    in_groups = width & ~63
    in_line = (np.uint64(1) << np.uint64(width - in_groups)) - np.uint64(1)
    while p + last < n and raw[p + last] == _LF and raw[p] != _GT:
        if ending == 2 and raw[p + width] != _CR:
            break
        line_n, any_bad = 0, np.uint64(0)
        for g in range(0, in_groups, 64):
            other, bad = _convert_64(raw, p + g, out, o + g)
            line_n += _count_ones(other)
            any_bad |= bad
        other, bad = _convert_64(raw, p + in_groups, out, o + in_groups)
        if any_bad | (bad & in_line):
            break
        n_count += line_n + _count_ones(other & in_line)
        p += last + 1
        o += width
    return p, o, n_count


@kernel
def _convert_line(
    raw: np.ndarray, n: int, p: int, out: np.ndarray, o: int
) -> tuple[int, int, int, int, bool, bool]:
    """Convert to the end of the line or of `raw`, with a look at each byte.

    Returns the offsets, the N and IUPAC codes counted, whether the line ended, and whether
    the byte at the offset is not sequence.
    """
    n_count, iupac = 0, 0
    bytewise = 0  # bytes still to be looked at one by one
    while p < n:
        if bytewise == 0 and p + 64 <= n:
            other, bad = _convert_64(raw, p, out, o)
            if not bad:
                n_count += _count_ones(other)
                p += 64
                o += 64
                continue
            bytewise = 64
        kind = BYTE_CLASSES[raw[p]]
        if kind <= _IUPAC:
            n_count += kind >= AMBIGUOUS
            iupac += kind == _IUPAC
            out[o] = min(kind, np.uint8(AMBIGUOUS))
            o += 1
        elif kind == _END:
            return p + 1, o, n_count, iupac, True, False
        elif kind == _BAD or (p + 1 < n and raw[p + 1] != _LF):
            return p, o, n_count, iupac, False, True
        p += 1
        bytewise = max(bytewise - 1, 0)
    return p, o, n_count, iupac, False, False


@kernel
def _read_header(raw: np.ndarray, n: int, p: int, row: np.ndarray) -> int:
    """Note where the header at raw[p] begins and ends; returns the offset after its line."""
    end = p
    while end < n and raw[end] != _LF:
        end += 1
    row[HEADER_START], row[HEADER_END] = p, end
    return min(end + 1, n)


@kernel
def convert(
    raw: np.ndarray, n: int, mid_line: bool, out: np.ndarray, headers: np.ndarray, tally: np.ndarray
) -> None:
    """Convert raw[:n] to base codes.

    Parameters
    ----------
    raw : uint8 [n + PAD or more]
    n : bytes to convert
    mid_line : whether raw[0] continues a line of sequence (else it begins a line)
    out : uint8 [n + PAD or more], receives the codes
    headers : int64 [m, 5], receives a row for each header line: offset of its `>` and of its end
        in raw, offset of the code 4 that precedes its contig in `out`, and the N and IUPAC codes
        counted before it. The pass stops early when the table is full.
    tally : int64 [6], receives bytes consumed, codes written, headers met, N counted (IUPAC codes
        included), IUPAC codes counted, and the offset of a byte that is not sequence, or -1
    """
    p, o = 0, 0
    width, ending = 0, 1
    n_count, iupac = 0, 0
    num_headers, bad = 0, -1
    at_start = not mid_line
    while p < n:
        if at_start and raw[p] == _GT:
            if num_headers == headers.shape[0]:
                break
            row = headers[num_headers]
            row[HEADER_CODE], row[HEADER_N], row[HEADER_IUPAC] = o, n_count, iupac
            p = _read_header(raw, n, p, row)
            num_headers += 1
            out[o] = AMBIGUOUS
            o += 1
            continue
        if at_start and width > 0:
            p, o, line_n = _convert_regular_lines(raw, n, p, out, o, width, ending)
            n_count += line_n
            if p == n or raw[p] == _GT:
                continue
        line, first = p, o
        p, o, line_n, line_iupac, ended, refused = _convert_line(raw, n, p, out, o)
        n_count += line_n
        iupac += line_iupac
        if refused:
            bad = p
            break
        if ended and at_start and o > first:
            width = o - first
            ending = p - line - width
        at_start = ended
    tally[CONSUMED], tally[WRITTEN], tally[HEADERS] = p, o, num_headers
    tally[N_COUNT], tally[IUPAC_COUNT], tally[BAD] = n_count, iupac, bad
