"""FASTA bytes to base codes: one pass over memory, in compiled code.

Contract
--------
raw : uint8 [n + PAD]    bytes of a FASTA file; the last PAD bytes are readable rubbish
codes : uint8            A T C G = 0 1 2 3 (either case; U is T), everything else 4
                         a contig is preceded by one code 4, so no k-mer joins two contigs

A letter of the IUPAC nucleotide code that is not A C G T U becomes 4 and is counted; any other
byte stops the pass and is reported with its offset, so nothing is ever guessed.

How it gets to the speed of memory: lines of a FASTA file have one width, so the end of a line is
known before it is read; 64 bytes are converted at a time by comparisons, which the compiler turns
into vector instructions, where a table lookup a byte would not be. The last group of a line
overruns into the next line; that line then overwrites the overrun. A line that is not as expected
(the first, the last, a ragged one, one with IUPAC codes) takes a path that looks at each byte.
"""

import numpy as np
from numba import njit

PAD = 64
OTHER = 4

_LF, _CR, _GT, _N = 10, 13, 62, 78
# Classes of a byte beyond the codes 0..4.
_IUPAC, _END, _RETURN, _BAD = 5, 6, 7, 8


def _byte_classes() -> np.ndarray:
    classes = np.full(256, _BAD, np.uint8)
    for letters, value in (("Aa", 0), ("TtUu", 1), ("Cc", 2), ("Gg", 3), ("Nn", OTHER)):
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


# Offsets are uint64 throughout: with a signed index numba allows for negative ones, and the loops
# over 64 bytes are then not turned into vector instructions (measured: 12 times slower). A plain
# integer literal beside a uint64 would make a float of it, hence the constants.
_0, _1, _64 = np.uint64(0), np.uint64(1), np.uint64(64)
_BATCH = np.uint64(1 << 14)  # bases that are checked together, while they are in the first cache


@njit(nogil=True, cache=True, inline="always")
def _convert_64(raw, p, out, o):
    for j in range(_64):
        letter = np.uint8(raw[p + j] & np.uint8(0xDF))  # upper case; no other byte maps on these
        code = np.uint8(_BAD)
        code = np.uint8(OTHER) if letter == 78 else code
        code = np.uint8(0) if letter == 65 else code
        code = np.uint8(1) if letter == 84 else code
        code = np.uint8(2) if letter == 67 else code
        code = np.uint8(3) if letter == 71 else code
        out[o + j] = code


@njit(nogil=True, cache=True, inline="always")
def _any_of(codes, start, end):
    flags = np.uint8(0)
    for j in range(start, end):
        flags |= codes[j]
    return flags


@njit(nogil=True, cache=True, inline="always")
def _count_other(codes, start, end):
    count = _0
    for j in range(start, end):
        count += np.uint64(codes[j] == OTHER)
    return count


@njit(nogil=True, cache=True)
def _whole_lines(raw, n, p, out, o, width, ending):
    """Convert lines of `width` bases and `ending` bytes of line end, as long as nothing surprises.

    Returns the offsets behind the last line that was good, and the N counted.
    """
    n_count = _0
    last = width + ending - _1
    while True:
        p0, o0 = p, o
        while (
            o - o0 < _BATCH
            and p + last < n
            and raw[p + last] == _LF
            and (ending == _1 or raw[p + width] == _CR)
            and raw[p] != _GT
        ):
            for g in range(_0, width, _64):
                _convert_64(raw, p + g, out, o + g)
            p += last + _1
            o += width
        flags = _any_of(out, o0, o)
        if flags & _BAD or o == o0:
            return p0, o0, n_count
        if flags & OTHER:
            n_count += _count_other(out, o0, o)


@njit(nogil=True, cache=True)
def _one_line(raw, n, p, out, o):
    """Convert to the end of the line or of what is here, with a look at each byte.

    Returns the offsets, the N and IUPAC codes counted, whether the line ended, and whether
    the byte at the offset is not sequence.
    """
    n_count, iupac = _0, _0
    look = _0  # bytes still to be looked at one by one
    while p < n:
        if look == _0 and p + _64 <= n:
            _convert_64(raw, p, out, o)
            flags = _any_of(out, o, o + _64)
            if not flags & _BAD:
                n_count += _count_other(out, o, o + _64) if flags & OTHER else _0
                p += _64
                o += _64
                continue
            look = _64
        kind = BYTE_CLASSES[raw[p]]
        if kind <= _IUPAC:
            n_count += np.uint64(kind >= OTHER)
            iupac += np.uint64(kind == _IUPAC)
            out[o] = min(kind, np.uint8(OTHER))
            o += _1
        elif kind == _END:
            return p + _1, o, n_count, iupac, True, False
        elif kind == _BAD or (p + _1 < n and raw[p + _1] != _LF):
            return p, o, n_count, iupac, False, True
        p += _1
        look -= np.uint64(look > _0)
    return p, o, n_count, iupac, False, False


@njit(nogil=True, cache=True)
def convert(raw, size, mid_line, out, headers, tally):
    """Convert raw[:size] to base codes.

    Parameters
    ----------
    raw : uint8 [size + PAD or more]
    size : bytes to convert
    mid_line : whether raw[0] continues a line of sequence (else it begins a line)
    out : uint8 [size + PAD or more], receives the codes
    headers : int64 [m, 5], receives a row for each header line: offset of its `>` and of its end
        in raw, offset of the code 4 that precedes its contig in `out`, and the N and IUPAC codes
        counted before it. The pass stops early when the table is full.
    tally : int64 [6], receives bytes consumed, codes written, headers met, N counted (IUPAC codes
        included), IUPAC codes counted, and the offset of a byte that is not sequence, or -1
    """
    n = np.uint64(size)
    p, o = _0, _0
    width, ending = _0, _1
    n_count, iupac = _0, _0
    met, bad = 0, -1
    at_start = not mid_line
    while p < n:
        if at_start and raw[p] == _GT:
            if met == headers.shape[0]:
                break
            end = p
            while end < n and raw[end] != _LF:
                end += _1
            row = headers[met]
            row[HEADER_START], row[HEADER_END], row[HEADER_CODE] = p, end, o
            row[HEADER_N], row[HEADER_IUPAC] = n_count, iupac
            met += 1
            out[o] = OTHER
            o += _1
            p = min(end + _1, n)
            continue
        if at_start and width > _0:
            p, o, found = _whole_lines(raw, n, p, out, o, width, ending)
            n_count += found
            if p == n or raw[p] == _GT:
                continue
        line, first = p, o
        p, o, found, codes, ended, refused = _one_line(raw, n, p, out, o)
        n_count += found
        iupac += codes
        if refused:
            bad = np.int64(p)
            break
        if ended and at_start and o > first:
            width = o - first
            ending = p - line - width
        at_start = ended
    tally[CONSUMED], tally[WRITTEN], tally[HEADERS] = p, o, met
    tally[N_COUNT], tally[IUPAC_COUNT], tally[BAD] = n_count, iupac, bad
