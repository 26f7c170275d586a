// One output row of a convolution in 16-bit integers:
//   out[k][x] = store(bias[k] + sum over c, t of w[k][c][t] * taps[t][c * in_stride + x])
// with two channels of a pixel in each word, two multiply-adds of which are one lane of one instruction.
//
// Blocking is conv.h's: KB output channels times NV vectors along x, one lane per pixel. An odd last channel has no partner: lines are made of it whose
// words hold a pixel and its right neighbour, so one multiply-add takes two taps of a line, the last of an odd number with the weight 0 for its partner.
//
// Rounding: of all weights of an output channel and all sums that they fall into, the magnitudes times the inputs' largest number stay in 32 bits. Many terms
// are cut into several sums (conv16_pack.h), each added to the result in floats in its turn.
//
// Every element is one fixed sequence of operations, the same for all instruction sets but scalar, where a multiply-add rounds twice.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "conv16_pack.h"
#include "fast.h"
#include "half.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// ---- scratch -------------------------------------------------------------------------------------------------------------------------------------

// Words of one made line: whole vectors, and what a block over-reads.
FASTSR_INLINE size_t made_line16(int width) { return round_up(static_cast<size_t>(width), 16) + kOverRead; }

size_t conv16_scratch(int cin, int kh, int kw, int width) {
  const size_t odd = cin % 2 ? static_cast<size_t>(kh) * ((kw + 1) / 2) : 0;
  return (static_cast<size_t>(kh) * kw + odd) * sizeof(const uint32_t*) + odd * made_line16(width) * sizeof(uint32_t) + 64;
}

// What the blocks read.
struct Taps16 {
  const uint32_t** taps;  // of lines of two channels
  const uint32_t** odd;   // of the made lines
  Terms16 terms;
  const float* coefs;
  const float* biases;
  const int16_t* weights;
};

FASTSR_INLINE Taps16 taps16(const Conv16Row& r) {
  Taps16 t;
  t.terms = terms16(r.cin, r.kh, r.kw);
  t.taps = reinterpret_cast<const uint32_t**>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  t.odd = t.taps + t.terms.taps;
  t.coefs = r.weights;
  t.biases = t.coefs + round_up(r.cout, 16);
  t.weights = reinterpret_cast<const int16_t*>(t.biases + round_up(r.cout, 16));
  for (int i = 0; i < r.kh; i++)
    for (int j = 0; j < r.kw; j++) t.taps[i * r.kw + j] = r.lines[i] + static_cast<ptrdiff_t>(j) * r.dilation;
  if (t.terms.odd == 0) return t;
  uint32_t* made = reinterpret_cast<uint32_t*>(t.odd + t.terms.odd);
  for (int i = 0, n = 0; i < r.kh; i++)
    for (int j = 0; j < r.kw; j += 2, made += made_line16(r.width)) {
      const uint32_t* const from = r.lines[i] + t.terms.lines * r.in_stride + static_cast<ptrdiff_t>(j) * r.dilation;
      const ptrdiff_t next = j + 1 < r.kw ? r.dilation : 0;
      for (int x = 0; x < r.width; x += W) store_words(made + x, words(load_ints(from + x), load_ints(from + next + x)));
      t.odd[n++] = made;
    }
  return t;
}

// ---- store ---------------------------------------------------------------------------------------------------------------------------------------

FASTSR_INLINE V conv16_act(const Conv16Row& r, V y, int k) {
  switch (r.act) {
    case Act::kNone: return y;
    case Act::kRelu: return max(set1(0.0f), y);
    case Act::kClip: return min(set1(r.b), max(set1(r.a), y));
    case Act::kLeakyRelu:
    case Act::kPRelu: break;
  }
  return select(lt(y, set1(0.0f)), mul(y, set1(r.act == Act::kPRelu ? r.slope[k] : r.a)), y);
}

template <int KB, int NV>
FASTSR_INLINE void conv16_store(const Conv16Row& r, V (&acc)[KB][NV], int k0, int x) {
  for (int k = 0; k < KB; k++)
    for (int v = 0; v < NV; v++) {
      const ptrdiff_t at = x + v * W, from = (k0 + k) * r.residual_stride + at;
      V y = acc[k][v];
      V more = set1(0.0f);
      if (r.residual) {
        more = r.residual_type == Element::kHalf ? load(static_cast<const uint16_t*>(r.residual) + from) : load(static_cast<const float*>(r.residual) + from);
      }
      if (r.residual && r.residual_first) y = add(y, more);
      y = conv16_act(r, y, k0 + k);
      if (r.residual && !r.residual_first) y = add(y, more);
      if (r.out_type == Element::kPairs) {
        uint32_t* const out = static_cast<uint32_t*>(r.out) + (k0 + k) / 2 * r.out_stride + at;
        const I value = whole(y, set1(r.most));
        store_words(out, (k0 + k) % 2 ? words(load_ints(out), value) : words(value, zero()));
      } else if (r.out_type == Element::kHalf) {
        store(static_cast<uint16_t*>(r.out) + (k0 + k) * r.out_stride + at, saturated(y));
      } else {
        store(static_cast<float*>(r.out) + (k0 + k) * r.out_stride + at, y);
      }
    }
}

// ---- sums ----------------------------------------------------------------------------------------------------------------------------------------

template <class Dot, int KB, int NV>
FASTSR_INLINE void conv16_taps(I (&sum)[KB][NV], const uint32_t* const* taps, int n, ptrdiff_t offset, const int16_t*& w) {
  FASTSR_NO_UNROLL for (int t = 0; t < n; t++, w += 2 * KB) {
    const uint32_t* const p = taps[t] + offset;
    Pairs in[NV];
    FASTSR_UNROLL for (int v = 0; v < NV; v++) in[v] = load_words(p + v * W);
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      const Pair weight = load_pair(w + 2 * k);
      FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = Dot::add(sum[k][v], in[v], weight);
    }
  }
}

// Output channels k0 .. k0 + KB - 1, pixels x .. x + NV * W - 1; w: their packed weights.
template <class Dot, int KB, int NV>
FASTSR_NOINLINE void conv16_block(const Conv16Row& r, const Taps16& t, const int16_t* w, int k0, int x) {
  V acc[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = set1(t.biases[k0 + k]);
  }
  for (int s = 0; s < t.terms.sums; s++) {
    I sum[KB][NV];
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = zero();
    }
    for (int c = t.terms.begin(s); c < t.terms.begin(s + 1); c++) conv16_taps<Dot, KB, NV>(sum, t.taps, t.terms.taps, c * r.in_stride + x, w);
    if (s == t.terms.sums - 1) conv16_taps<Dot, KB, NV>(sum, t.odd, t.terms.odd, x, w);
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = fma(to_float(sum[k][v]), set1(t.coefs[k0 + k]), acc[k][v]);
    }
  }
  conv16_store<KB, NV>(r, acc, k0, x);
}

using Conv16Block = void (*)(const Conv16Row&, const Taps16&, const int16_t*, int, int);

constexpr int kConv16VectorsMax = 12;

// block[kb][nv], made for every pair that kConvVectors allows.
template <class Dot>
struct Conv16Blocks {
  Conv16Block block[kConvChannels + 1][kConv16VectorsMax + 1];
  constexpr Conv16Blocks() : block{} { fill<1, 1>(); }
  template <int KB, int NV>
  constexpr void fill() {
    static_assert(NV <= kConv16VectorsMax, "kConvVectors");
    block[KB][NV] = conv16_block<Dot, KB, NV>;
    if constexpr (NV < kConvVectors[KB]) {
      fill<KB, NV + 1>();
    } else if constexpr (KB < kConvChannels) {
      fill<KB + 1, 1>();
    }
  }
};

template <class Dot>
void conv16(const Conv16Row& r) {
  static constexpr Conv16Blocks<Dot> kBlocks;
  const Taps16 t = taps16(r);
  const Blocks16 blocks = blocks16(r.cout);
  const int vectors = (r.width + W - 1) / W, most = kConvVectors[blocks.size];
  const int n_x = (vectors + most - 1) / most;
  for (int i = 0, v0 = 0; i < n_x; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(vectors) * (i + 1) / n_x), nv = v1 - v0;
    const int16_t* w = t.weights;
    for (int b = 0, k = 0; b < blocks.count; b++) {
      const int kb = b < blocks.larger ? blocks.size : blocks.size - 1;
      kBlocks.block[kb][nv](r, t, w, k, v0 * W);
      w += 2 * kb * t.terms.pairs();
      k += kb;
    }
    v0 = v1;
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
