"""Vectors of 64 bytes, for operations that are written in LLVM's terms."""

from typing import Any

from llvmlite import ir

BYTES_64 = ir.VectorType(ir.IntType(8), 64)


def all_lanes(value: int) -> ir.Constant:
    """The vector with one value in each byte."""
    return ir.Constant(BYTES_64, [value] * 64)


def pointer_64(
    context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any, array: int
) -> ir.Value:
    """The 64 bytes at which argument number `array`, an array, and the next, an offset, point."""
    data = context.make_array(signature.args[array])(context, builder, arguments[array])
    start = builder.gep(data.data, [arguments[array + 1]])
    return builder.bitcast(start, BYTES_64.as_pointer())
