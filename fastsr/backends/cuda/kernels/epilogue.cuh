// Element-wise operations behind a step, and the store, which may shuffle pixels: `Chain<Relu, Add<0>>` does these in this order. Every operation has
// a slot of its own, which says where its numbers or its operand are. Meaning: docs/fsr.md.
#pragma once

#include "base.cuh"

namespace fastsr {

// The operand of a binary operation.
template <class T, int S>
struct Value {
  static FASTSR_DEVICE float of(const Args& a, const Where& w) {
    const View& v = a.slots[S].value;
    return to_float(at<T>(v, w.n, w.y, w.x)[v.channels == 1 ? 0 : w.c]);
  }
};

template <class T, int S>
struct Tensor {
  static FASTSR_DEVICE float of(const Args& a, const Where& w) { return a.slots[S].tensor[w.c]; }
};

template <class T, int S>
struct Number {
  static FASTSR_DEVICE float of(const Args& a, const Where&) { return a.slots[S].a; }
};

#define FASTSR_UNARY(NAME, EXPRESSION)                                            \
  template <int S>                                                               \
  struct NAME {                                                                  \
    static FASTSR_DEVICE float apply(float v, const Args& args, const Where& w) { \
      const float a = args.slots[S].a, b = args.slots[S].b;                      \
      (void)a, (void)b, (void)w;                                                 \
      return EXPRESSION;                                                         \
    }                                                                            \
  };

// NaN where either is, unlike fmaxf and fminf.
FASTSR_DEVICE float max_nan(float v, float o) { return v >= o || v != v ? v : o; }

FASTSR_DEVICE float min_nan(float v, float o) { return v <= o || v != v ? v : o; }

FASTSR_DEVICE float clipped(float v, float low, float high) { return min_nan(max_nan(v, low), high); }

FASTSR_DEVICE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

FASTSR_DEVICE float softplus(float v) { return fmaxf(v, 0.0f) + log1pf(expf(-fabsf(v))); }

FASTSR_UNARY(Relu, max_nan(v, 0.0f))
FASTSR_UNARY(LeakyRelu, v >= 0.0f ? v : a * v)
FASTSR_UNARY(PRelu, v >= 0.0f ? v : args.slots[S].tensor[w.c] * v)
FASTSR_UNARY(Clip, clipped(v, a, b))
FASTSR_UNARY(Tanh, tanhf(v))
FASTSR_UNARY(Sigmoid, sigmoid(v))
FASTSR_UNARY(HardSigmoid, clipped(a * v + b, 0.0f, 1.0f))
FASTSR_UNARY(HardSwish, v * clipped(v / 6.0f + 0.5f, 0.0f, 1.0f))
FASTSR_UNARY(Silu, v * sigmoid(v))
FASTSR_UNARY(Gelu, a != 0.0f ? 0.5f * v * (1.0f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v))) : 0.5f * v * (1.0f + erff(v * 0.7071067812f)))
FASTSR_UNARY(Mish, v * tanhf(softplus(v)))
FASTSR_UNARY(Abs, fabsf(v))
FASTSR_UNARY(Neg, -v)
FASTSR_UNARY(Sqrt, sqrtf(v))
FASTSR_UNARY(Quantize, fminf(fmaxf(rintf(v), a), b) + 0.0f)  // the sum is never -0

#define FASTSR_BINARY(NAME, EXPRESSION)                                           \
  template <class Operand>                                                       \
  struct NAME {                                                                  \
    static FASTSR_DEVICE float apply(float v, const Args& args, const Where& w) { \
      const float o = Operand::of(args, w);                                      \
      return EXPRESSION;                                                         \
    }                                                                            \
  };

FASTSR_BINARY(Add, v + o)
FASTSR_BINARY(Sub, v - o)
FASTSR_BINARY(Mul, v* o)
FASTSR_BINARY(Div, v / o)
FASTSR_BINARY(Max, max_nan(v, o))
FASTSR_BINARY(Min, min_nan(v, o))
FASTSR_BINARY(RSub, o - v)
FASTSR_BINARY(RDiv, o / v)

template <class... Operations>
struct Chain {
  static constexpr bool EMPTY = sizeof...(Operations) == 0;

  static FASTSR_DEVICE float apply(float v, const Args& args, const Where& w) {
    ((v = Operations::apply(v, args, w)), ...);
    return v;
  }
};

// DepthToSpace by Block; the channel order of ONNX's mode CRD, else DCR. Block 1 is no shuffle.
template <int Block, bool Crd>
struct Shuffle {
  static constexpr int BLOCK = Block;
  static constexpr bool CRD = Crd;

  // Where a place in the step's result, which has `channels` channels, lies after the shuffle.
  static FASTSR_DEVICE Where moved(const Where& w, int channels) {
    const int left = channels / (Block * Block);
    const int c = Crd ? w.c / (Block * Block) : w.c % left;
    const int part = Crd ? w.c % (Block * Block) : w.c / left;
    return {w.n, c, w.y * Block + part / Block, w.x * Block + part % Block};
  }
};

// The rest of a step behind its sum: `Before` the shuffle, the shuffle, `After` it.
template <class T, class Before, class Moved, class After>
FASTSR_DEVICE void store(float v, const Args& args, const Where& w) {
  v = Before::apply(v, args, w);
  const Where to = Moved::BLOCK > 1 ? Moved::moved(w, args.cout) : w;
  v = After::apply(v, args, to);
  const View& out = args.out;
  if (Moved::BLOCK == 1 || (to.y >= out.y0 && to.y < out.y1 && to.x >= out.x0 && to.x < out.x1)) at<T>(out, to.n, to.y, to.x)[to.c] = from_float<T>(v);
}

}  // namespace fastsr
