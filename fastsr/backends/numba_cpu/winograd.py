# mypy: disallow-untyped-defs=False
"""Four output rows of a 3x3 convolution (stride 1, dilation 1) from six input rows by Winograd's F(4, 3) along y, as in csrc/kernels/winograd.h,
whose points and transforms these are: 18 multiply-adds for the four results of a column instead of 36. Three calls make four rows of a chunk:
    T[p] = B^T d    six rows per input channel: combinations of whole rows
    M[p] = 1x3 convolution of T[p] with (G w)[p], all channels, for each of the six points p: `kernels.CONV` with the points as rows
    y    = A^T M + bias, then activation, residual and store as in a convolution

A result depends, through rounding, on all six rows, so groups begin at multiples of four of the picture's rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from . import vectors as vec
from .vectors import I64, LANES

POINTS, GROUP = 6, 4

_NEAR, _FAR = 0.625, 1.5
"""The finite points other than 0 are +- these."""

CHUNK_FLOATS = 1 << 16
"""Of T and M together, so that they stay in the second-level cache, unless the least chunk takes more."""

_CHUNK_VECTORS = 6
"""A chunk has a multiple of so many vectors, where the width allows."""


def pays(cin: int, cout: int) -> bool:
    """Whether this is faster than a direct convolution."""
    return cin * cout >= 4 * (cin + cout)


def transform_weights(weight: np.ndarray) -> np.ndarray:
    """(G w)[p]: float32 (6, cout, cin, 3) from (cout, cin, 3, 3)."""
    n, f = _NEAR, _FAR
    near, far = 2 * n * n * (n * n - f * f), 2 * f * f * (f * f - n * n)
    g = np.array([[1 / (n * n * f * f), 0, 0], *([1 / s, p / s, p * p / s] for p, s in ((n, near), (-n, near), (f, far), (-f, far))), [0, 0, 1]])
    return np.einsum("py,ocyx->pocx", g, weight.astype(np.float64)).astype(np.float32)


def chunks(vectors: int, cin: int, cout: int) -> list[tuple[int, int]]:
    """Where the chunks of a row begin and end, in vectors."""
    fits = CHUNK_FLOATS // (POINTS * LANES * (cin + cout)) // _CHUNK_VECTORS * _CHUNK_VECTORS
    count = -(-vectors // max(fits, _CHUNK_VECTORS))
    return [(vectors * i // count, vectors * (i + 1) // count) for i in range(count)]


@intrinsic
def _transform_input(_: Any, arena: Any, at: Any, row: Any, to: Any, point: Any) -> Any:
    """One vector of T from six rows."""

    def codegen(context: Any, b: Any, sig: Any, args: Any) -> Any:
        data = vec.pointer(context, b, sig, args, 0)
        _arena, at, row, to, point = args
        d = [vec.load(b, b.gep(data, [b.add(at, b.mul(row, I64(i)))])) for i in range(POINTS)]

        def scaled(x: float, y: Any, z: Any) -> Any:
            return vec.fma(b, vec.const(x), y, z)

        near2, far2 = _NEAR**2, _FAR**2
        even_near, odd_near = scaled(-far2, d[2], d[4]), scaled(-far2, d[1], d[3])
        even_far, odd_far = scaled(-near2, d[2], d[4]), scaled(-near2, d[1], d[3])
        t = [
            scaled(near2 * far2, d[0], scaled(-near2 - far2, d[2], d[4])),
            scaled(_NEAR, odd_near, even_near),
            scaled(-_NEAR, odd_near, even_near),
            scaled(_FAR, odd_far, even_far),
            scaled(-_FAR, odd_far, even_far),
            scaled(near2 * far2, d[1], scaled(-near2 - far2, d[3], d[5])),
        ]
        for i, v in enumerate(t):
            vec.store(b, v, b.gep(data, [b.add(to, b.mul(point, I64(i)))]))
        return context.get_dummy_value()

    return types.void(arena, at, row, to, point), codegen


@njit
def transform_inputs(arena, code, p):
    """T of one chunk: at, row, channel (of the input), cin, vectors, to, to_channel, to_point."""
    at, row, channel, cin, vectors = code[p], code[p + 1], code[p + 2], code[p + 3], code[p + 4]
    to, to_channel, to_point = code[p + 5], code[p + 6], code[p + 7]
    for c in range(cin):
        for v in range(vectors):
            _transform_input(arena, at + c * channel + v * LANES, row, to + c * to_channel + v * LANES, to_point)


def output_rows(b: Any, load: Callable[[int], Any], bias: Any) -> list[Any]:
    """The four results of a column from the six points of M, `load(0)` to `load(5)`."""

    def scaled(x: float, y: Any, z: Any) -> Any:
        return vec.fma(b, vec.const(x), y, z)

    m = [load(i) for i in range(POINTS)]
    near_sum, near_difference = b.fadd(m[1], m[2]), b.fsub(m[1], m[2])
    far_sum, far_difference = b.fadd(m[3], m[4]), b.fsub(m[3], m[4])
    return [
        b.fadd(b.fadd(near_sum, far_sum), b.fadd(m[0], bias)),
        scaled(_NEAR, near_difference, scaled(_FAR, far_difference, bias)),
        scaled(_NEAR**2, near_sum, scaled(_FAR**2, far_sum, bias)),
        scaled(_NEAR**3, near_difference, scaled(_FAR**3, far_difference, b.fadd(m[5], bias))),
    ]
