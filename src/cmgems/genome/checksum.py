"""The checksum of a contig: sha256 over its bases, four per byte.

Hashing is the slowest step while a genome is read. Packed, a base is two bits; where the codes are
not A, T, C or G is hashed separately, as runs.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.utils.kernels import intrinsic, kernel

_BLOCK = 1 << 18  # codes packed at a time: they are still in the cache when they are hashed
_STEP = 1 << 22  # codes between two reports of the progress


class CodesHash:
    """A checksum of base codes (uint8), which come in parts of any length; the cuts do not matter.

    The digest is sha256(P R n): P = sha256 of the codes' two low bits, four codes per byte, the
    first the highest, the last byte filled up with 0; R = sha256 of start and end of each run of
    codes 4, as little-endian int64; n = number of codes, likewise. A code above 4, which a damaged
    file may have and no genome has, goes into R as it is.
    """

    def __init__(self) -> None:
        self._packed, self._runs = hashlib.sha256(), hashlib.sha256()
        self._rest = np.empty(0, np.uint8)  # fewer than four codes that have no byte yet
        self._length = 0
        self._run_open = False

    def update(self, codes: np.ndarray) -> None:
        """Add the codes that follow."""
        start, self._length = self._length, self._length + len(codes)
        fill = min(-len(self._rest) % 4, len(codes))
        self._rest = np.concatenate([self._rest, codes[:fill]])
        ambiguous = bool((codes[:fill] >= AMBIGUOUS).any())
        if len(self._rest) == 4:
            self._packed.update(_pack_few(self._rest))
            self._rest = self._rest[:0]
        body = codes[fill : len(codes) - (len(codes) - fill) % 4]
        if not len(self._rest):
            self._rest = codes[fill + len(body) :].copy()
            ambiguous |= bool((self._rest >= AMBIGUOUS).any())
        out = np.empty(_BLOCK // 4, np.uint8)
        for first in range(0, len(body), _BLOCK):
            block = body[first : first + _BLOCK]
            ambiguous |= bool(_pack(block, out))
            self._packed.update(out[: len(block) // 4].data)
        if ambiguous or self._run_open:
            self._update_runs(codes, start)

    def _update_runs(self, codes: np.ndarray, start: int) -> None:
        inside = np.concatenate([[self._run_open], codes == AMBIGUOUS])
        turns = np.flatnonzero(inside[1:] != inside[:-1]) + start
        self._runs.update(turns.astype("<i8").tobytes())
        self._runs.update(codes[codes > AMBIGUOUS].tobytes())
        self._run_open = bool(inside[-1])

    def hexdigest(self) -> str:
        """The digest of the codes so far; more may follow."""
        packed, runs = self._packed.copy(), self._runs.copy()
        if len(self._rest):
            packed.update(
                _pack_few(np.append(self._rest, np.zeros(-len(self._rest) % 4, np.uint8)))
            )
        length = self._length.to_bytes(8, "little")
        if self._run_open:
            runs.update(length)
        return hashlib.sha256(packed.digest() + runs.digest() + length).hexdigest()


def hash_codes(codes: np.ndarray, advance: Callable[[int], object] = lambda n: None) -> str:
    """The checksum of a contig; `advance` is called with the codes hashed since the last call."""
    checksum = CodesHash()
    for first in range(0, len(codes), _STEP):
        part = codes[first : first + _STEP]
        checksum.update(part)
        advance(len(part))
    return checksum.hexdigest()


def _pack_few(codes: np.ndarray) -> bytes:
    first, second, third, fourth = (codes.reshape(-1, 4) & 3).T
    return (first << 6 | second << 4 | third << 2 | fourth).astype(np.uint8).tobytes()


@intrinsic
def _pack_64(
    typing_context: Any, codes: types.Type, at: types.Type, out: types.Type, to: types.Type
) -> tuple[Any, Callable[..., Any]]:
    """Pack codes[at:at+64] into out[to:to+16]; returns one bit per byte: has it a code above 3?"""
    signature = types.uint16(codes, at, out, to)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        words = ir.VectorType(ir.IntType(32), 16)

        def all_lanes(value: int) -> ir.Constant:
            return ir.Constant(words, [value] * 16)

        def pointer(array: int, index: int, vector: ir.Type) -> ir.Value:
            data = context.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.bitcast(builder.gep(data.data, [arguments[index]]), vector.as_pointer())

        four = builder.load(pointer(0, 1, words), align=1)
        # The four codes of a word (first lowest) are gathered in its highest byte (first highest).
        spread = builder.mul(builder.and_(four, all_lanes(0x03030303)), all_lanes(0x40100401))
        small = ir.VectorType(ir.IntType(8), 16)
        packed = builder.trunc(builder.lshr(spread, all_lanes(24)), small)
        builder.store(packed, pointer(2, 3, small), align=1)
        high_bits = builder.and_(four, all_lanes(0xFCFCFCFC))
        above_3 = builder.icmp_unsigned("!=", high_bits, all_lanes(0))
        return builder.bitcast(above_3, ir.IntType(16))

    return signature, codegen


@kernel
def _pack(codes: np.ndarray, out: np.ndarray) -> np.uint16:
    """Pack a multiple of 4 codes; returns 0 if none of them is above 3."""
    ambiguous = np.uint16(0)
    whole = len(codes) & ~63
    for at in range(0, whole, 64):
        ambiguous |= _pack_64(codes, at, out, at >> 2)
    for at in range(whole, len(codes), 4):
        byte = 0
        for code in codes[at : at + 4]:
            byte = byte << 2 | code & 3
            ambiguous |= np.uint16(code >> 2)
        out[at >> 2] = byte
    return ambiguous
