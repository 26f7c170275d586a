// Element-wise operations in place on n floats; the last vector is processed whole, so up to W - 1 floats past n are read and written.
//
// exp and what follows from it: x = n ln 2 + r with |r| <= ln 2 / 2, expm1(r) by a polynomial, scaling by bits; no table, no library call, the same
// bits on every instruction set with fused multiply-add. Relative errors stay below 1e-6 as far as the result and what it is made of are normal
// floats (the tests state them per function; the tanh form of Gelu loses digits like x^2 in its negative tail). NaN gives NaN, in Relu and Clip too.
// Infinities and overflow give the limits, where NumPy's formula may give NaN: Silu, Gelu and Mish of -inf are -0.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "kernels.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// NaN in either operand gives NaN; simd max(a, b) alone returns b when a is NaN.
FASTSR_INLINE V max_nan(V x, V y) { return select(isnan(y), y, max(y, x)); }
FASTSR_INLINE V min_nan(V x, V y) { return select(isnan(y), y, min(y, x)); }

// 2^n for whole -126 <= n <= 127: adding 1.5 * 2^23 + 127 leaves the biased exponent in the low mantissa bits.
FASTSR_INLINE V pow2(V n) { return shl23(add(n, set1(12582912.0f + 127.0f))); }

// n = x / ln 2 rounded to whole; returns exp(x - n ln 2) - 1. |x| up to about 2^15.
FASTSR_INLINE V exp_reduce(V x, V& n) {
  const V magic = set1(12582912.0f);
  n = sub(fma(x, set1(1.442695041f), magic), magic);
  V r = fma(n, set1(-0.693359375f), x);  // few bits: the product is exact
  r = fma(n, set1(2.12194440e-4f), r);
  V q = set1(0.00019766994f);  // Lawson fit of (exp(r) - 1 - r) / r^2
  q = fma(q, r, set1(0.0013933228f));
  q = fma(q, r, set1(0.008333541f));
  q = fma(q, r, set1(0.041666485f));
  q = fma(q, r, set1(0.16666666f));
  q = fma(q, r, set1(0.5f));
  return fma(mul(r, r), q, r);
}

// Scaling in two steps reaches denormals and infinity.
FASTSR_INLINE V exp(V x) {
  V n;
  const V p = exp_reduce(min(set1(89.0f), max(set1(-104.0f), x)), n);
  const V magic = set1(12582912.0f);
  const V half = sub(fma(n, set1(0.5f), magic), magic);
  const V s = pow2(half);
  return mul(fma(s, p, s), pow2(sub(n, half)));
}

FASTSR_INLINE V tanh(V x) {
  const V a = min(set1(10.0f), abs(x));
  V n;
  const V p = exp_reduce(add(a, a), n), s = pow2(n);
  const V m = fma(s, p, sub(s, set1(1.0f)));  // expm1(2 |x|), accurate near 0
  return copysign(div(m, add(m, set1(2.0f))), x);
}

FASTSR_INLINE V sigmoid(V x) {
  const V e = exp(neg(abs(x)));
  return div(select(lt(x, set1(0.0f)), e, set1(1.0f)), add(e, set1(1.0f)));
}

FASTSR_INLINE V silu(V x) { return mul(max(set1(-104.0f), x), sigmoid(x)); }

// x Phi(x) = max(x, 0) - t Phi(-t), t = |x|; Phi(-t) = exp(-t^2 / 2) R(s), s = 1 / (1 + 0.35 t), R a polynomial (Lawson fit, relative error 3.4e-8).
FASTSR_INLINE V gelu(V x) {
  const V t = min(set1(14.5f), abs(x));
  const V square = mul(t, t), rest = fma(t, t, neg(square));
  V e = exp(mul(square, set1(-0.5f)));
  e = fma(e, mul(rest, set1(-0.5f)), e);
  const V s = div(set1(1.0f), fma(t, set1(0.35f), set1(1.0f)));
  V r = set1(-0.029158374f);
  r = fma(r, s, set1(0.14403321f));
  r = fma(r, s, set1(-0.25584355f));
  r = fma(r, s, set1(0.15932465f));
  r = fma(r, s, set1(-0.023215558f));
  r = fma(r, s, set1(0.10555377f));
  r = fma(r, s, set1(0.11982099f));
  r = fma(r, s, set1(0.13986355f));
  r = fma(r, s, set1(0.1396213f));
  return fma(neg(t), mul(e, mul(r, s)), max(set1(0.0f), x));
}

// 0.5 x (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
FASTSR_INLINE V gelu_tanh(V x) {
  const V u2 = mul(x, fma(mul(x, x), set1(0.0713548162726f), set1(1.5957691216f)));
  return mul(max(set1(-104.0f), x), sigmoid(u2));
}

// tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), e = exp(x); 1 in float from x = 20 on.
FASTSR_INLINE V mish(V x) {
  const V e = exp(min(set1(20.0f), x)), w = mul(e, add(e, set1(2.0f)));
  return mul(max(set1(-104.0f), x), div(w, add(w, set1(2.0f))));
}

template <Pointwise OP>
FASTSR_INLINE V apply2(V x, V y) {
  if constexpr (OP == Pointwise::kAdd) return add(x, y);
  if constexpr (OP == Pointwise::kSub) return sub(x, y);
  if constexpr (OP == Pointwise::kMul) return mul(x, y);
  if constexpr (OP == Pointwise::kDiv) return div(x, y);
  if constexpr (OP == Pointwise::kMax) return max_nan(x, y);
  if constexpr (OP == Pointwise::kMin) return min_nan(x, y);
  if constexpr (OP == Pointwise::kRSub) return sub(y, x);
  if constexpr (OP == Pointwise::kRDiv) return div(y, x);
}

template <Pointwise OP>
FASTSR_INLINE V apply1(V x, V a, V b) {
  if constexpr (OP == Pointwise::kRelu) {
    return max(set1(0.0f), x);
  } else if constexpr (OP == Pointwise::kLeakyRelu) {
    return select(lt(x, set1(0.0f)), mul(x, a), x);
  } else if constexpr (OP == Pointwise::kClip) {
    return min(b, max(a, x));
  } else if constexpr (OP == Pointwise::kQuantize) {
    const V magic = set1(12582912.0f);  // 1.5 * 2^23 leaves no bits for a fraction
    return sub(add(min(max(x, a), b), magic), magic);
  } else if constexpr (OP == Pointwise::kTanh) {
    return tanh(x);
  } else if constexpr (OP == Pointwise::kSigmoid) {
    return sigmoid(x);
  } else if constexpr (OP == Pointwise::kHardSigmoid) {
    return min(set1(1.0f), max(set1(0.0f), fma(a, x, b)));
  } else if constexpr (OP == Pointwise::kHardSwish) {
    return mul(x, min(set1(1.0f), max(set1(0.0f), fma(x, set1(1.0f / 6.0f), set1(0.5f)))));
  } else if constexpr (OP == Pointwise::kSilu) {
    return silu(x);
  } else if constexpr (OP == Pointwise::kGelu) {
    return gelu(x);
  } else if constexpr (OP == Pointwise::kMish) {
    return mish(x);
  } else if constexpr (OP == Pointwise::kAbs) {
    return abs(x);
  } else if constexpr (OP == Pointwise::kNeg) {
    return neg(x);
  } else if constexpr (OP == Pointwise::kSqrt) {
    return sqrt(x);
  } else {
    return apply2<OP>(x, a);
  }
}

template <Pointwise OP>
FASTSR_NOINLINE void unary_loop(float* x, int n, float a, float b) {
  const V va = set1(a), vb = set1(b);
  for (int i = 0; i < n; i += W) store(x + i, apply1<OP>(load(x + i), va, vb));
}

template <Pointwise OP>
FASTSR_NOINLINE void binary_loop(float* x, const float* y, int n) {
  for (int i = 0; i < n; i += W) store(x + i, apply2<OP>(load(x + i), load(y + i)));
}

FASTSR_NOINLINE void gelu_tanh_loop(float* x, int n) {
  for (int i = 0; i < n; i += W) store(x + i, gelu_tanh(load(x + i)));
}

void unary(Pointwise op, float* x, int n, float a, float b) {
  switch (op) {
    case Pointwise::kRelu: return unary_loop<Pointwise::kRelu>(x, n, a, b);
    case Pointwise::kLeakyRelu:
    case Pointwise::kPRelu: return unary_loop<Pointwise::kLeakyRelu>(x, n, a, b);
    case Pointwise::kClip: return unary_loop<Pointwise::kClip>(x, n, a, b);
    case Pointwise::kQuantize: return unary_loop<Pointwise::kQuantize>(x, n, a, b);
    case Pointwise::kTanh: return unary_loop<Pointwise::kTanh>(x, n, a, b);
    case Pointwise::kSigmoid: return unary_loop<Pointwise::kSigmoid>(x, n, a, b);
    case Pointwise::kHardSigmoid: return unary_loop<Pointwise::kHardSigmoid>(x, n, a, b);
    case Pointwise::kHardSwish: return unary_loop<Pointwise::kHardSwish>(x, n, a, b);
    case Pointwise::kSilu: return unary_loop<Pointwise::kSilu>(x, n, a, b);
    case Pointwise::kGelu: return a != 0.0f ? gelu_tanh_loop(x, n) : unary_loop<Pointwise::kGelu>(x, n, a, b);
    case Pointwise::kMish: return unary_loop<Pointwise::kMish>(x, n, a, b);
    case Pointwise::kAbs: return unary_loop<Pointwise::kAbs>(x, n, a, b);
    case Pointwise::kNeg: return unary_loop<Pointwise::kNeg>(x, n, a, b);
    case Pointwise::kSqrt: return unary_loop<Pointwise::kSqrt>(x, n, a, b);
    case Pointwise::kAdd: return unary_loop<Pointwise::kAdd>(x, n, a, b);
    case Pointwise::kSub: return unary_loop<Pointwise::kSub>(x, n, a, b);
    case Pointwise::kMul: return unary_loop<Pointwise::kMul>(x, n, a, b);
    case Pointwise::kDiv: return unary_loop<Pointwise::kDiv>(x, n, a, b);
    case Pointwise::kMax: return unary_loop<Pointwise::kMax>(x, n, a, b);
    case Pointwise::kMin: return unary_loop<Pointwise::kMin>(x, n, a, b);
    case Pointwise::kRSub: return unary_loop<Pointwise::kRSub>(x, n, a, b);
    case Pointwise::kRDiv: return unary_loop<Pointwise::kRDiv>(x, n, a, b);
  }
}

void binary(Pointwise op, float* x, const float* y, int n) {
  switch (op) {
    case Pointwise::kAdd: return binary_loop<Pointwise::kAdd>(x, y, n);
    case Pointwise::kSub: return binary_loop<Pointwise::kSub>(x, y, n);
    case Pointwise::kMul: return binary_loop<Pointwise::kMul>(x, y, n);
    case Pointwise::kDiv: return binary_loop<Pointwise::kDiv>(x, y, n);
    case Pointwise::kMax: return binary_loop<Pointwise::kMax>(x, y, n);
    case Pointwise::kMin: return binary_loop<Pointwise::kMin>(x, y, n);
    case Pointwise::kRSub: return binary_loop<Pointwise::kRSub>(x, y, n);
    case Pointwise::kRDiv: return binary_loop<Pointwise::kRDiv>(x, y, n);
    default: return;
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
