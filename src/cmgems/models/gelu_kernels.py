"""Triton kernels for a GPU: products of matrices that compute GELU, or its gradient, as they end.

Read `cmgems.models.fused_gelu` first; this file is imported where a kernel is launched.

A program makes a tile [ROWS, COLUMNS] of the result. Programs with consecutive numbers share the
rows of the first factor, and the other factor is small enough for the cache.

Shapes: T tokens, D width, F feed-forward width, P tiles of rows.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# A tile, and the part of D that is loaded at once: with 3 stages 96 KB of shared memory, which all
# GPUs from Ampere on have.
ROWS, COLUMNS, DEPTH = 128, 128, 64
WARPS, STAGES = 8, 3


@triton.jit
def _tile(rows_T, columns_F, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The rows and columns of this program, and which of them there are."""
    across = tl.cdiv(columns_F, COLUMNS)
    row = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % across) * COLUMNS + tl.arange(0, COLUMNS)
    return row, column, (row < rows_T)[:, None], (column < columns_F)[None, :]


@triton.jit
def _up_gelu(
    x_TD,
    weight_FD,
    bias_F,
    before_TF,
    after_TF,
    rows_T,
    columns_F,
    width_D,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    row, column, is_row, is_column = _tile(rows_T, columns_F, ROWS, COLUMNS)
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, width_D, DEPTH):
        inner = start + tl.arange(0, DEPTH)
        is_inner = inner < width_D
        x = tl.load(x_TD + row[:, None] * width_D + inner[None, :], is_row & is_inner[None, :], 0.0)
        weight = tl.load(
            weight_FD + column[None, :] * width_D + inner[:, None],
            is_column & is_inner[:, None],
            0.0,
        )
        product = tl.dot(x, weight, product, input_precision="ieee")
    if HAS_BIAS:
        product += tl.load(bias_F + column[None, :], is_column, 0.0).to(tl.float32)
    at, there = row[:, None] * columns_F + column[None, :], is_row & is_column
    before = product.to(before_TF.dtype.element_ty)
    tl.store(before_TF + at, before, there)
    value = before.to(tl.float32)  # what the backward pass reads
    value = 0.5 * value * (1 + tl.erf(value * 0.7071067811865476))
    tl.store(after_TF + at, value.to(after_TF.dtype.element_ty), there)


@triton.jit
def _down_gelu_backward(
    gradient_TD,
    weight_DF,
    before_TF,
    gradient_TF,
    sums_PF,
    rows_T,
    columns_F,
    width_D,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    row, column, is_row, is_column = _tile(rows_T, columns_F, ROWS, COLUMNS)
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, width_D, DEPTH):
        inner = start + tl.arange(0, DEPTH)
        is_inner = inner < width_D
        gradient = tl.load(
            gradient_TD + row[:, None] * width_D + inner[None, :], is_row & is_inner[None, :], 0.0
        )
        weight = tl.load(
            weight_DF + inner[:, None].to(tl.int64) * columns_F + column[None, :],
            is_column & is_inner[:, None],
            0.0,
        )
        product = tl.dot(gradient, weight, product, input_precision="ieee")
    at, there = row[:, None] * columns_F + column[None, :], is_row & is_column
    x = tl.load(before_TF + at, there, 0.0).to(tl.float32)
    density = 0.3989422804014327 * tl.exp(-0.5 * x * x)
    product *= 0.5 * (1 + tl.erf(x * 0.7071067811865476)) + x * density
    tl.store(gradient_TF + at, product.to(gradient_TF.dtype.element_ty), there)
    sums = tl.sum(product, 0)  # rows beyond the end are zero
    tile = tl.program_id(0) // tl.cdiv(columns_F, COLUMNS)
    tl.store(sums_PF + tile * columns_F + column, sums, column < columns_F)


def up_gelu(x_TD: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> tuple[Tensor, Tensor]:
    """As `fused_gelu.up_gelu`."""
    x_TD, weight_FD = x_TD.contiguous(), weight_FD.contiguous()
    (rows, width), columns = x_TD.shape, len(weight_FD)
    before_TF = x_TD.new_empty(rows, columns)
    after_TF = torch.empty_like(before_TF)
    _up_gelu[_programs(rows, columns)](
        x_TD,
        weight_FD,
        weight_FD if bias_F is None else bias_F,
        before_TF,
        after_TF,
        rows,
        columns,
        width,
        bias_F is not None,
        ROWS,
        COLUMNS,
        DEPTH,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    return before_TF, after_TF


def down_gelu_backward(
    gradient_TD: Tensor, weight_DF: Tensor, before_TF: Tensor
) -> tuple[Tensor, Tensor]:
    """As `fused_gelu.down_gelu_backward`."""
    gradient_TD, weight_DF = gradient_TD.contiguous(), weight_DF.contiguous()
    (rows, width), columns = gradient_TD.shape, weight_DF.shape[1]
    gradient_TF = torch.empty_like(before_TF)
    sums_PF = before_TF.new_empty(triton.cdiv(rows, ROWS), columns, dtype=torch.float32)
    _down_gelu_backward[_programs(rows, columns)](
        gradient_TD,
        weight_DF,
        before_TF,
        gradient_TF,
        sums_PF,
        rows,
        columns,
        width,
        ROWS,
        COLUMNS,
        DEPTH,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    return gradient_TF, sums_PF.sum(0)


def _programs(rows: int, columns: int) -> tuple[int]:
    return (triton.cdiv(rows, ROWS) * triton.cdiv(columns, COLUMNS),)
