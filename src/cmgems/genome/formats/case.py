"""Which letters of FASTA text are in lower case: soft-masked, by RepeatMasker and its kin.

A pass of its own over text that `fasta_kernels.convert` has converted, and so found to be nothing
but letters, headers and line ends: who asks for base codes alone does not pay for it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.formats.vectors import all_lanes, pointer_64
from cmgems.utils.kernels import intrinsic, kernel

_LF, _CR, _GT, _SPACE = 10, 13, 62, 32


@intrinsic
def _lower_64(
    typing_context: Any, raw: types.Type, p: types.Type, codes: types.Type, o: types.Type
) -> tuple[Any, Callable[..., Any]]:
    """Two uint64 with one bit per byte, lowest first: which of raw[p:p+64] are in lower case, of
    known bases by codes[o:o+64], and which of them end a line.

    One operation on a vector, for the reason in `fasta_kernels`.
    """
    signature = types.UniTuple(types.uint64, 2)(raw, p, codes, o)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        letters = builder.load(pointer_64(context, builder, signature, arguments, 0), align=1)
        found = builder.load(pointer_64(context, builder, signature, arguments, 2), align=1)
        known = builder.icmp_unsigned("<", found, all_lanes(AMBIGUOUS))
        lower = builder.icmp_unsigned(">=", letters, all_lanes(ord("a")))
        ends = builder.icmp_unsigned("<", letters, all_lanes(_SPACE))
        bits = [
            builder.bitcast(lanes, ir.IntType(64)) for lanes in (builder.and_(known, lower), ends)
        ]
        return context.make_tuple(builder, signature.return_type, bits)

    return signature, codegen


@intrinsic
def _trailing_zeros(typing_context: Any, bits: types.Type) -> tuple[Any, Callable[..., Any]]:
    """The number of bits below the lowest that is set; 64 if none is."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@kernel
def find_lower(
    raw: np.ndarray, n: int, mid_line: bool, codes: np.ndarray, lower: np.ndarray
) -> None:
    """Mark the known bases of raw[:n] that are in lower case.

    Parameters
    ----------
    raw : uint8 [n + 64 or more], what `fasta_kernels.convert` has consumed
    mid_line : as it was told
    codes : uint8 [n + 64 or more], what it has written
    lower : uint64 [n / 64 + 2 or more], receives a bit for each code: bit i % 64 of lower[i // 64]
    """
    p, o = 0, 0
    word = np.uint64(0)  # the bits since the last whole word
    width = 0  # of the line before: a guess that is mostly right spares a wait for the bits
    at_start = not mid_line
    while p < n:
        if at_start and raw[p] == _GT:
            while p < n and raw[p] != _LF:
                p += 1
            p += 1
            o += 1
            if o & 63 == 0:
                lower[(o >> 6) - 1], word = word, np.uint64(0)
            continue
        bits, ends = _lower_64(raw, p, codes, o)
        end = np.uint64(1) << np.uint64(width)
        if p + width >= n or ends & (end + end - np.uint64(1)) != end:
            width = min(_trailing_zeros(ends), n - p, 63)
            end = np.uint64(1) << np.uint64(width)
        bits &= end - np.uint64(1)
        shift = np.uint64(o & 63)
        word |= bits << shift
        if (o & 63) + width >= 64:
            lower[o >> 6] = word
            word = bits >> np.uint64(1) >> (np.uint64(63) - shift)  # no shift by 64: it means none
        p += width
        o += width
        at_start = False
        if p < n and raw[p] == _CR:
            p += 1
        if p < n and raw[p] == _LF:
            p += 1
            at_start = True
    lower[o >> 6] = word
