"""The checksum of a contig: sha256 over its bases, four of them a byte.

Hashing is the slowest thing that is done to a genome while it is read. Packed, a base is two bits,
and where the codes are not A, T, C or G is hashed apart, as runs.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cmgems.genome.formats.fasta_kernels import OTHER
from cmgems.utils.kernels import kernel

_BLOCK = 1 << 18  # codes packed at a time: what is hashed is still in cache
_STEP = 1 << 22  # codes from one word on the progress to the next


class CodesHash:
    """Fed with base codes (uint8) in pieces of any length; the cuts do not matter.

    The digest is sha256(P R n): P = sha256 of the codes' two low bits, four codes a byte, the first
    the highest, the last byte filled up with 0; R = sha256 of start and end of each run of codes 4,
    as little-endian int64; n = number of codes, likewise. A code above 4, which a damaged file may
    have and no genome has, goes into R as it is.
    """

    def __init__(self) -> None:
        self._packed, self._runs = hashlib.sha256(), hashlib.sha256()
        self._rest = np.empty(0, np.uint8)  # fewer than four codes that have no byte yet
        self._length = 0
        self._run_open = False

    def update(self, codes: np.ndarray) -> None:
        start, self._length = self._length, self._length + len(codes)
        fill = min(-len(self._rest) % 4, len(codes))
        self._rest = np.concatenate([self._rest, codes[:fill]])
        ambiguous = bool((codes[:fill] >= OTHER).any())
        if len(self._rest) == 4:
            self._packed.update(_pack_few(self._rest))
            self._rest = self._rest[:0]
        body = codes[fill : len(codes) - (len(codes) - fill) % 4]
        if not len(self._rest):
            self._rest = codes[fill + len(body) :].copy()
            ambiguous |= bool((self._rest >= OTHER).any())
        out = np.empty(_BLOCK // 4, np.uint8)
        for first in range(0, len(body), _BLOCK):
            block = body[first : first + _BLOCK]
            ambiguous |= bool(_pack(block, out))
            self._packed.update(out[: len(block) // 4])
        if ambiguous or self._run_open:
            self._note_runs(codes, start)

    def _note_runs(self, codes: np.ndarray, start: int) -> None:
        inside = np.concatenate([[self._run_open], codes == OTHER])
        turns = np.flatnonzero(inside[1:] != inside[:-1]) + start
        self._runs.update(turns.astype("<i8").tobytes())
        self._runs.update(codes[codes > OTHER].tobytes())
        self._run_open = bool(inside[-1])

    def hexdigest(self) -> str:
        """Of what was fed so far; more may follow."""
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
    """The checksum of a whole contig; `advance` is told the codes done since the last call."""
    total = CodesHash()
    for first in range(0, len(codes), _STEP):
        part = codes[first : first + _STEP]
        total.update(part)
        advance(len(part))
    return total.hexdigest()


def _pack_few(codes: np.ndarray) -> bytes:
    first, second, third, fourth = (codes.reshape(-1, 4) & 3).T
    return (first << 6 | second << 4 | third << 2 | fourth).astype(np.uint8).tobytes()


@intrinsic
def _pack_64(typing_context, codes, at, out, to):
    """Pack codes[at:at+64] into out[to:to+16]; returns a bit a byte: has it a code above 3."""
    signature = types.uint16(codes, at, out, to)

    def codegen(context, builder, signature, arguments):
        words = ir.VectorType(ir.IntType(32), 16)

        def all_lanes(value):
            return ir.Constant(words, [value] * 16)

        def pointer(array, index, vector):
            data = context.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.bitcast(builder.gep(data.data, [arguments[index]]), vector.as_pointer())

        four = builder.load(pointer(0, 1, words), align=1)
        # Four codes of a word, the first lowest, are gathered in its highest byte, first highest.
        spread = builder.mul(builder.and_(four, all_lanes(0x03030303)), all_lanes(0x40100401))
        small = ir.VectorType(ir.IntType(8), 16)
        packed = builder.trunc(builder.lshr(spread, all_lanes(24)), small)
        builder.store(packed, pointer(2, 3, small), align=1)
        found = builder.and_(four, all_lanes(0xFCFCFCFC))
        return builder.bitcast(builder.icmp_unsigned("!=", found, all_lanes(0)), ir.IntType(16))

    return signature, codegen


@kernel
def _pack(codes, out):
    """Pack a multiple of 4 codes; returns whether one of them is above 3."""
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
