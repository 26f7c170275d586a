"""Vectors of floats in LLVM IR: what the intrinsics of `kernels.py` are written with.

Every function takes an `llvmlite.ir.IRBuilder` first and emits code there. Vectors have `LANES` floats; LLVM splits them where the machine's are
shorter. All lanes go through the same operations; fused multiply-adds are explicit.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils

_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_FEATURES = llvmlite.binding.get_host_cpu_features() if _X86 else {}
AVX512 = bool(_FEATURES.get("avx512f"))
FMA = not _X86 or bool(_FEATURES.get("fma"))
"""Whether the processor multiplies and adds with one rounding."""

LANES = 16 if AVX512 else 8 if _FEATURES.get("avx") else 4
"""Floats in a vector."""

MANY_REGISTERS = AVX512 or not _X86
"""32 vector registers; else 16."""

F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
VEC, IVEC = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


def pointer(context: Any, b: Any, sig: Any, args: Any, i: int) -> Any:
    """Pointer to the first element of array argument number i of an intrinsic."""
    return context.make_array(sig.args[i])(context, b, args[i]).data


def load(b: Any, p: Any) -> Any:
    """The vector at float pointer p, which needs no alignment."""
    v = b.load(b.bitcast(p, VEC.as_pointer()))
    v.align = 4
    return v


def store(b: Any, v: Any, p: Any) -> None:
    """Write the vector to float pointer p, which needs no alignment."""
    b.store(v, b.bitcast(p, VEC.as_pointer())).align = 4


def splat(b: Any, scalar: Any) -> Any:
    """The float in all lanes."""
    one = b.insert_element(ir.Constant(VEC, ir.Undefined), scalar, I32(0))
    return b.shuffle_vector(one, ir.Constant(VEC, ir.Undefined), ir.Constant(IVEC, [0] * LANES))


def const(x: float) -> Any:
    """A constant, rounded to float32, in all lanes."""
    return ir.Constant(VEC, [float(np.float32(x))] * LANES)


def call(b: Any, name: str, *xs: Any) -> Any:
    """LLVM's intrinsic of that name on vectors."""
    return b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(VEC, [VEC] * len(xs)), f"llvm.{name}.v{LANES}f32"), xs)


def fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once; where the processor has no such instruction, twice."""
    return call(b, "fma", x, y, z) if FMA else b.fadd(b.fmul(x, y), z)


def maximum(b: Any, x: Any, y: Any) -> Any:
    """The larger of x and y; x when x is NaN."""
    return b.select(b.fcmp_ordered("<", x, y), y, x)


def minimum(b: Any, x: Any, y: Any) -> Any:
    """The smaller of x and y; x when x is NaN."""
    return b.select(b.fcmp_ordered(">", x, y), y, x)


def leaky(b: Any, x: Any, slope: Any) -> Any:
    """x, times the slope where it is negative."""
    return b.select(b.fcmp_ordered("<", x, const(0)), b.fmul(x, slope), x)


def clip(b: Any, x: Any, lo: Any, hi: Any) -> Any:
    """min(max(x, lo), hi)."""
    return minimum(b, maximum(b, x, lo), hi)


def absolute(b: Any, x: Any) -> Any:
    """|x|."""
    return b.bitcast(b.and_(b.bitcast(x, IVEC), ir.Constant(IVEC, [0x7FFFFFFF] * LANES)), VEC)


def polynomial(b: Any, x: Any, *coefficients: float) -> Any:
    """Horner's scheme; the highest coefficient first."""
    y = const(coefficients[0])
    for c in coefficients[1:]:
        y = fma(b, y, x, const(c))
    return y


def exp(b: Any, x: Any) -> Any:
    """e to the x by the range reduction and polynomial of Cephes' expf, about 1 ulp; x is limited to what float32 can hold."""
    x = clip(b, x, const(-87.3), const(88.3))
    n = call(b, "floor", fma(b, x, const(1.44269504088896341), const(0.5)))
    r = fma(b, n, const(2.12194440e-4), fma(b, n, const(-0.693359375), x))
    p = polynomial(b, r, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    y = fma(b, b.fmul(p, r), r, b.fadd(r, const(1)))
    power = b.shl(b.add(b.fptosi(n, IVEC), ir.Constant(IVEC, [127] * LANES)), ir.Constant(IVEC, [23] * LANES))
    return b.fmul(y, b.bitcast(power, VEC))


def sigmoid(b: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return b.fdiv(const(1), b.fadd(const(1), exp(b, b.fsub(const(0), x))))


def tanh(b: Any, x: Any) -> Any:
    """Cephes' tanhf: a polynomial below 0.625, 1 - 2 / (exp(2 |x|) + 1) above."""
    z = b.fmul(x, x)
    p = polynomial(b, z, -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
    small = fma(b, b.fmul(p, z), x, x)
    size = absolute(b, x)
    big = b.fsub(const(1), b.fdiv(const(2), b.fadd(const(1), exp(b, b.fadd(size, size)))))
    big = b.select(b.fcmp_ordered("<", x, const(0)), b.fsub(const(0), big), big)
    return b.select(b.fcmp_ordered("<", size, const(0.625)), small, big)


def half_erfc(b: Any, x: Any) -> Any:
    """erfc(x) / 2: the Chebyshev fit of Press et al., Numerical Recipes, section 6.2 (erfcc), relative error 1.2e-7 before rounding."""
    z = absolute(b, x)
    t = b.fdiv(const(1), fma(b, z, const(0.5), const(1)))
    p = polynomial(b, t, 0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223)
    y = b.fmul(b.fmul(t, const(0.5)), exp(b, b.fsub(p, b.fmul(z, z))))
    return b.select(b.fcmp_ordered("<", x, const(0)), b.fsub(const(1), y), y)


def gelu(b: Any, x: Any, tanh_form: Any, _: Any) -> Any:
    """x times the normal distribution function of x: exact, or the tanh form where `tanh_form` is not 0, written as x sigmoid(2 ...)."""
    exact = b.fmul(x, half_erfc(b, b.fmul(x, const(-(0.5**0.5)))))
    inner = b.fmul(x, fma(b, b.fmul(x, x), const(2 * 0.7978845608028654 * 0.044715), const(2 * 0.7978845608028654)))
    return b.select(b.fcmp_ordered("!=", tanh_form, const(0)), b.fmul(x, sigmoid(b, inner)), exact)


def mish(b: Any, x: Any, *_: Any) -> Any:
    """x tanh(log(1 + e)) = x n / (n + 2), n = e (e + 2), e = exp(x)."""
    e = exp(b, minimum(b, x, const(20)))
    n = b.fmul(e, b.fadd(e, const(2)))
    return b.fmul(x, b.fdiv(n, b.fadd(n, const(2))))


def hard_swish(b: Any, x: Any, *_: Any) -> Any:
    """x min(max(x / 6 + 0.5, 0), 1)."""
    return b.fmul(x, clip(b, fma(b, x, const(1 / 6), const(0.5)), const(0), const(1)))


def hard_sigmoid(b: Any, x: Any, alpha: Any, beta: Any) -> Any:
    """min(max(alpha x + beta, 0), 1)."""
    return clip(b, fma(b, x, alpha, beta), const(0), const(1))


def quantize(b: Any, x: Any, low: Any, high: Any) -> Any:
    """Cut off to low..high, low for NaN, and rounded half to even: 1.5 * 2^23 leaves no bits for a fraction."""
    magic = const(12582912)
    return b.fsub(b.fadd(minimum(b, maximum(b, low, x), high), magic), magic)


def branch(b: Any, condition: Any, values: list[Any], change: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """The values, changed when the condition holds."""
    before, then, after = b.block, b.append_basic_block("then"), b.append_basic_block("after")
    b.cbranch(condition, then, after)
    b.position_at_end(then)
    changed, then = change(values), b.block
    b.branch(after)
    b.position_at_end(after)
    merged = []
    for old, new in zip(values, changed, strict=True):
        phi = b.phi(VEC)
        phi.add_incoming(old, before)
        phi.add_incoming(new, then)
        merged.append(phi)
    return merged


# ---- operations of docs/fsr.md ------------------------------------------------------------------------------------------------------------------

Operation = Callable[..., Any]

BINARY: dict[int, Operation] = {
    14: lambda b, x, y, *_: b.fadd(x, y),
    15: lambda b, x, y, *_: b.fsub(x, y),
    16: lambda b, x, y, *_: b.fmul(x, y),
    17: lambda b, x, y, *_: b.fdiv(x, y),
    18: lambda b, x, y, *_: maximum(b, x, y),
    19: lambda b, x, y, *_: minimum(b, x, y),
    20: lambda b, x, y, *_: b.fsub(y, x),
    21: lambda b, x, y, *_: b.fdiv(y, x),
}
"""Code of docs/fsr.md -> op(builder, x, y)."""

UNARY: dict[int, Operation] = {
    1: lambda b, x, *_: maximum(b, x, const(0)),
    2: lambda b, x, a, _: leaky(b, x, a),
    3: lambda b, x, a, _: leaky(b, x, a),
    4: clip,
    5: lambda b, x, *_: tanh(b, x),
    6: lambda b, x, *_: sigmoid(b, x),
    7: hard_sigmoid,
    8: hard_swish,
    9: lambda b, x, *_: b.fmul(x, sigmoid(b, x)),
    10: gelu,
    11: mish,
    12: lambda b, x, *_: absolute(b, x),
    13: lambda b, x, *_: b.fneg(x),
    23: quantize,
    24: lambda b, x, *_: call(b, "sqrt", x),
    **BINARY,
}
"""Code of docs/fsr.md -> op(builder, x, a, b): the operand of a binary operation, or a PRelu's slope, is a."""
