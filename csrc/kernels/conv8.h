// One output row of a convolution in 8-bit integers: four channels of a pixel in each word, their four multiply-adds one lane of one instruction (or two,
// of 16-bit pairs, where the processor has no such instruction: vpmaddubsw would cut off sums of two products).
//
// Blocking is conv.h's: KB output channels times NV vectors along x, one lane per pixel. The sums of a block go through memory to where they are finished.
// Sums are exact, so their order does not matter; finishing is one fixed sequence of operations, none of them fused: all instruction sets agree.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 8-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int8.h"
#endif
#include "int8.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

struct PlainBytes {
  static constexpr auto& kVectors = kBytesVectors;
  static constexpr int kWeightBytes = 8;
  struct In { Pairs even, odd; };
  struct Weight { Pair even, odd; };
  FASTSR_INLINE In load(const uint32_t* p) {
    const I a = load_ints(p);
    return {even_bytes(a), odd_bytes(a)};
  }
  FASTSR_INLINE Weight weight(const void* p) {
    const int16_t* const w = static_cast<const int16_t*>(p);
    return {load_pair(w), load_pair(w + 2)};
  }
  FASTSR_INLINE I add(I sum, const In& a, const Weight& w) { return PlainDot::add(PlainDot::add(sum, a.even, w.even), a.odd, w.odd); }
};
#ifndef FASTSR_QUICK_BYTES
using QuickBytes = PlainBytes;
#endif

FASTSR_INLINE int quads_of(int channels) { return channels / 4 + (channels % 4 != 0); }
FASTSR_INLINE size_t up64(size_t n) { return (n + 63) / 64 * 64; }

// ---- packed weights: biases, then [block of output channels][line][tap][channel in block] words ------------------------------------------------------

template <class Dot>
size_t conv8_pack_size(int cout, int cin, int n_taps) {
  return up64(static_cast<size_t>(cout) * sizeof(int32_t)) + up64(static_cast<size_t>(cout) * quads_of(cin) * n_taps * Dot::kWeightBytes);
}

template <class Dot>
void conv8_pack(void* packed, const float* w, int cout, int cin, int n_taps, const float* bias, float least) {
  std::memset(packed, 0, conv8_pack_size<Dot>(cout, cin, n_taps));
  int32_t* const biases = static_cast<int32_t*>(packed);
  uint8_t* const words = static_cast<uint8_t*>(packed) + up64(static_cast<size_t>(cout) * sizeof(int32_t));
  const size_t terms = static_cast<size_t>(cin) * n_taps;
  for (int k = 0; k < cout; k++) {
    const int first = k / kBytesChannels * kBytesChannels, kb = cout - first < kBytesChannels ? cout - first : kBytesChannels;
    uint8_t* const block = words + static_cast<size_t>(first) * quads_of(cin) * n_taps * Dot::kWeightBytes;
    int64_t sum = 0;
    for (int c = 0; c < cin; c++)
      for (int t = 0; t < n_taps; t++) {
        const int v = static_cast<int>(w[k * terms + static_cast<size_t>(c) * n_taps + t]);
        uint8_t* const word = block + ((static_cast<size_t>(c / 4) * n_taps + t) * kb + (k - first)) * Dot::kWeightBytes;
        sum += v;
        if (Dot::kWeightBytes == 4) {
          word[c % 4] = static_cast<uint8_t>(v);
        } else {
          const int16_t wide = static_cast<int16_t>(v);
          std::memcpy(word + (c % 2 * 2 + c % 4 / 2) * 2, &wide, 2);
        }
      }
    const int64_t all = static_cast<int64_t>(least) * sum + (bias ? static_cast<int64_t>(bias[k]) : 0);
    const uint32_t low = static_cast<uint32_t>(static_cast<uint64_t>(all));
    std::memcpy(biases + k, &low, 4);
  }
}

// ---- sums ----------------------------------------------------------------------------------------------------------------------------------------

constexpr int kBytesSums = 28;  // vectors of a block, at most

// Of KB channels and the pixels x .. x + NV * W - 1, to m: sums[channel * NV * W + pixel].
template <class Dot, int KB, int NV>
FASTSR_NOINLINE void conv8_block(const Conv8Row& r, const int32_t* bias, const uint8_t* w, ptrdiff_t x, int32_t* m) {
  I sum[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = set_ints(bias[k]);
  }
  const int lines = quads_of(r.cin);
  for (int c = 0; c < lines; c++, x += r.in_stride) {
    FASTSR_NO_UNROLL for (int t = 0; t < r.n_taps; t++, w += KB * Dot::kWeightBytes) {
      const uint32_t* const p = r.taps[t] + x;
      typename Dot::In in[NV];
      FASTSR_UNROLL for (int v = 0; v < NV; v++) in[v] = Dot::load(p + v * W);
      FASTSR_UNROLL for (int k = 0; k < KB; k++) {
        const auto weight = Dot::weight(w + k * Dot::kWeightBytes);
        FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = Dot::add(sum[k][v], in[v], weight);
      }
    }
  }
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) store_sums(m + (k * NV + v) * W, sum[k][v]);
  }
}

using Block8 = void (*)(const Conv8Row&, const int32_t*, const uint8_t*, ptrdiff_t, int32_t*);

// block[KB][NV].
template <class Dot>
struct Conv8Blocks {
  Block8 block[kBytesChannels + 1][13] = {};
  template <int KB, int NV>
  constexpr void fill() {
    block[KB][NV] = conv8_block<Dot, KB, NV>;
    if constexpr (NV > 1) fill<KB, NV - 1>();
    else if constexpr (KB > 1) fill<KB - 1, Dot::kVectors[KB - 1]>();
  }
  constexpr Conv8Blocks() { fill<kBytesChannels, Dot::kVectors[kBytesChannels]>(); }
};

// ---- finishing -----------------------------------------------------------------------------------------------------------------------------------

// Up to the quantisation.
template <Act A>
FASTSR_INLINE V finish8(const Finish8& f, int k, V y) {
  if (f.scale) y = mul(y, set1(f.scale[k]));
  if (f.shift) y = add(y, set1(f.shift[k]));
  if constexpr (A == Act::kRelu) y = max(set1(0.0f), y);
  if constexpr (A == Act::kLeakyRelu) y = select(lt(y, set1(0.0f)), mul(y, set1(f.a)), y);
  if constexpr (A == Act::kPRelu) y = select(lt(y, set1(0.0f)), mul(y, set1(f.slope[k])), y);
  if constexpr (A == Act::kClip) y = min(set1(f.b), max(set1(f.a), y));
  return f.quantize ? min(max(y, set1(f.low)), set1(f.high)) : y;
}

// Channels k .. k + kb - 1 of the pixels from x on; k: a multiple of 4.
template <Act A>
FASTSR_NOINLINE void conv8_finish(const Conv8Row& r, const int32_t* m, int k, int kb, ptrdiff_t x, int nv) {
  const Finish8& f = r.finish;
  const V magic = set1(12582912.0f), times = set1(f.times);
  if (r.bytes) {
    const I lift = set_ints(-static_cast<int32_t>(r.least));
    for (int i = 0; i < kb; i += 4) {
      uint32_t* const out = static_cast<uint32_t*>(r.out) + (k + i) / 4 * r.out_stride + x;
      for (int v = 0; v < nv; v++) {
        I byte[4] = {zero(), zero(), zero(), zero()};
        for (int j = 0; j < 4 && i + j < kb; j++) byte[j] = add(nearest(finish8<A>(f, k + i + j, load_sums(m + ((i + j) * nv + v) * W))), lift);
        store_words(out + v * W, add(words(byte[0], byte[2]), up8(words(byte[1], byte[3]))));
      }
    }
    return;
  }
  for (int i = 0; i < kb; i++) {
    float* const out = static_cast<float*>(r.out) + (k + i) * r.out_stride + x;
    for (int v = 0; v < nv; v++) {
      V y = finish8<A>(f, k + i, load_sums(m + (i * nv + v) * W));
      if (f.quantize) y = sub(add(y, magic), magic);
      store(out + v * W, f.times == 1.0f ? y : mul(y, times));
    }
  }
}

using Finish8Run = void (*)(const Conv8Row&, const int32_t*, int, int, ptrdiff_t, int);

FASTSR_INLINE Finish8Run finish8_for(Act act) {
  switch (act) {
    case Act::kRelu: return conv8_finish<Act::kRelu>;
    case Act::kLeakyRelu: return conv8_finish<Act::kLeakyRelu>;
    case Act::kPRelu: return conv8_finish<Act::kPRelu>;
    case Act::kClip: return conv8_finish<Act::kClip>;
    default: return conv8_finish<Act::kNone>;
  }
}

// ---- the convolution -----------------------------------------------------------------------------------------------------------------------------

template <class Dot>
void conv8(const Conv8Row& r) {
  static constexpr Conv8Blocks<Dot> kBlocks;
  const Finish8Run finish = finish8_for(r.finish.act);
  const int32_t* const biases = static_cast<const int32_t*>(r.weights);
  const uint8_t* const words = static_cast<const uint8_t*>(r.weights) + up64(static_cast<size_t>(r.cout) * sizeof(int32_t));
  const int widest = r.cout < kBytesChannels ? r.cout : kBytesChannels;
  const int vectors = (r.width + W - 1) / W, most = Dot::kVectors[widest], n_x = (vectors + most - 1) / most;
  const size_t of_channel = static_cast<size_t>(quads_of(r.cin)) * r.n_taps * Dot::kWeightBytes;
  alignas(64) int32_t m[kBytesSums * W];
  for (int i = 0, v0 = 0; i < n_x; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(vectors) * (i + 1) / n_x), nv = v1 - v0;
    for (int k = 0; k < r.cout; k += kBytesChannels) {
      const int kb = r.cout - k < kBytesChannels ? r.cout - k : kBytesChannels;
      kBlocks.block[kb][nv](r, biases + k, words + of_channel * k, v0 * W, m);
      finish(r, m, k, kb, v0 * W, nv);
    }
    v0 = v1;
  }
}

// ---- rows of bytes -------------------------------------------------------------------------------------------------------------------------------

void float_to_bytes(uint32_t* y, const float* const* x, int n, float least) {
  const V low = set1(least), high = set1(least + 255.0f);
  const I lift = set_ints(-static_cast<int32_t>(least));
  for (int i = 0; i < n; i += W) {
    I byte[4] = {zero(), zero(), zero(), zero()};
    for (int j = 0; j < 4; j++)
      if (x[j]) byte[j] = add(nearest(min(max(load(x[j] + i), low), high)), lift);
    store_words(y + i, add(words(byte[0], byte[2]), up8(words(byte[1], byte[3]))));
  }
}

void bytes_to_float(float* y, const uint32_t* x, int byte, int n, float least) {
  for (int i = 0; i < n; i += W) store(y + i, add(to_float(byte_of(load_ints(x + i), byte)), set1(least)));
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
