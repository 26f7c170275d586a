# mypy: disallow-untyped-defs=False
"""The element-wise operations of docs/fsr.md, as functions that run on the GPU: f(x, a, b), all float32.

a is the operand of operations that have one, else a and b are the operation's numbers. Constants are float32, for a double among them would make the
whole expression double, which GPUs compute far slower. numba's own `min` and `max` are avoided: NaN must come out as in the other backends.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float32

ZERO, HALF, ONE, TWO, THIRD_OF_HALF = (np.float32(x) for x in (0, 0.5, 1, 2, 1 / 6))
NAN = np.float32("nan")

EXP_LIMIT = np.float32(88)
"""exp of more than this is beyond float32."""

MISH_LIMIT = np.float32(20)
"""Above this mish(x) is x in float32, and exp(x) squared still fits."""

ROOT_HALF = np.float32(0.5**0.5)
GELU_LINEAR, GELU_CUBIC = np.float32(2 * (2 / math.pi) ** 0.5), np.float32(2 * (2 / math.pi) ** 0.5 * 0.044715)

NO_FRACTION = np.float32(1.5 * 2**23)
"""Added to a number of up to 2^22, it leaves no bits for a fraction: the sum is rounded half to even."""


@cuda.jit(device=True)
def relu(x, a, b):
    """max(x, 0)."""
    return ZERO if x < ZERO else x


@cuda.jit(device=True)
def prelu(x, a, b):
    """x, times the slope a where it is negative."""
    return x * a if x < ZERO else x


@cuda.jit(device=True)
def clip(x, a, b):
    """min(max(x, a), b)."""
    x = a if x < a else x
    return b if x > b else x


@cuda.jit(device=True)
def tanh(x, a, b):
    """tanh(x)."""
    return float32(math.tanh(x))


@cuda.jit(device=True)
def sigmoid(x, a, b):
    """1 / (1 + exp(-x))."""
    power = -x if x > -EXP_LIMIT else EXP_LIMIT
    return ONE / (ONE + float32(math.exp(power)))


@cuda.jit(device=True)
def hard_sigmoid(x, a, b):
    """min(max(a x + b, 0), 1)."""
    return clip(a * x + b, ZERO, ONE)


@cuda.jit(device=True)
def hard_swish(x, a, b):
    """x min(max(x / 6 + 0.5, 0), 1)."""
    return x * clip(x * THIRD_OF_HALF + HALF, ZERO, ONE)


@cuda.jit(device=True)
def silu(x, a, b):
    """x / (1 + exp(-x))."""
    return x * sigmoid(x, a, b)


@cuda.jit(device=True)
def gelu(x, a, b):
    """x times the normal distribution function of x."""
    return HALF * x * float32(math.erfc(-x * ROOT_HALF))


@cuda.jit(device=True)
def gelu_tanh(x, a, b):
    """The same in its tanh form: 0.5 (1 + tanh(y)) is sigmoid(2 y)."""
    return x * sigmoid(x * (GELU_LINEAR + GELU_CUBIC * x * x), a, b)


@cuda.jit(device=True)
def mish(x, a, b):
    """x tanh(log(1 + e)) = x n / (n + 2), n = e (e + 2), e = exp(x)."""
    e = float32(math.exp(x if x < MISH_LIMIT else MISH_LIMIT))
    n = e * (e + TWO)
    return x * (n / (n + TWO))


@cuda.jit(device=True)
def absolute(x, a, b):
    """|x|."""
    return float32(math.fabs(x))


@cuda.jit(device=True)
def negative(x, a, b):
    """-x."""
    return -x


@cuda.jit(device=True)
def quantize(x, a, b):
    """Cut off to a..b, a for NaN, and rounded half to even."""
    x = x if x > a else a
    x = b if x > b else x
    return (x + NO_FRACTION) - NO_FRACTION


@cuda.jit(device=True)
def square_root(x, a, b):
    """The square root."""
    return float32(math.sqrt(x)) if x >= ZERO else NAN


@cuda.jit(device=True)
def add(x, a, b):
    """x + a."""
    return x + a


@cuda.jit(device=True)
def subtract(x, a, b):
    """x - a."""
    return x - a


@cuda.jit(device=True)
def multiply(x, a, b):
    """x a."""
    return x * a


@cuda.jit(device=True)
def divide(x, a, b):
    """x / a."""
    return x / a


@cuda.jit(device=True)
def larger(x, a, b):
    """max(x, a)."""
    return x if x >= a or math.isnan(x) else a


@cuda.jit(device=True)
def smaller(x, a, b):
    """min(x, a)."""
    return x if x <= a or math.isnan(x) else a


@cuda.jit(device=True)
def subtract_from(x, a, b):
    """a - x."""
    return a - x


@cuda.jit(device=True)
def divide_by(x, a, b):
    """a / x."""
    return a / x


NUMBERS = {
    "Relu": relu,
    "LeakyRelu": prelu,
    "Clip": clip,
    "Tanh": tanh,
    "Sigmoid": sigmoid,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Silu": silu,
    "Gelu": gelu,
    "GeluTanh": gelu_tanh,
    "Mish": mish,
    "Abs": absolute,
    "Neg": negative,
    "Quantize": quantize,
    "Sqrt": square_root,
}
"""Operations of x and two numbers. GeluTanh is docs/fsr.md's Gelu with a = 1."""

OPERANDS = {
    "PRelu": prelu,
    "Add": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Max": larger,
    "Min": smaller,
    "RSub": subtract_from,
    "RDiv": divide_by,
}
"""Operations of x and an operand."""
