// One output row of a convolution in 16-bit integers:
//   out[k][x] = store(bias[k] + sum over c, t of w[k][c][t] * taps[t][c * in_stride + x])
// with two channels of a pixel in each word, two multiply-adds of which are one lane of one instruction.
//
// Blocking is conv.h's: KB output channels times NV vectors along x, one lane per pixel. Blocks begin at even channels, so that a word of the result is
// made by one of them. The sums of a block go through memory to where they are finished and stored,
// unless the block does that itself (Finish16).
//
// An odd last input channel has no partner: lines are made of it whose words hold the pixels of two successive taps, mostly a pixel and its right
// neighbour, so one multiply-add takes two taps, an odd last one with the weight 0 for its partner.
//
// Few output channels would need a load for every multiply-add or two. Instead the taps of a line become channels: all are multiplied with the same,
// unshifted vector, and the sums are shifted and added at the end, exactly.
//
// Rounding: of all weights of an output channel, magnitudes times the inputs' largest number stay in 32 bits. Many terms are cut into several sums
// (conv16_pack.h), each added to the result in floats in its turn.
//
// Every element is one fixed sequence of operations, the same for all instruction sets but scalar, where a multiply-add rounds twice.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "blocks.h"
#include "blocks16.h"
#include "conv16_pack.h"
#include "fast.h"
#include "half.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// ---- sums ----------------------------------------------------------------------------------------------------------------------------------------

constexpr int kColumnsMost = 10;  // output channels times taps of a line that become channels
constexpr int kBlockSums = 28;    // vectors of a block, at most

// How a block finishes pairs or half floats by itself, where slopes are numbers. All belong to its first channel.
struct Finish16 {
  const float* coefs;
  const float* biases;
  const float* slopes;
  ptrdiff_t slope_step;
  float most;
  void* out;  // of pixel 0
  ptrdiff_t out_stride;
  bool half;
};

// Where the results of channel k begin.
FASTSR_INLINE void* results_at(void* out, Element type, int k, ptrdiff_t stride, ptrdiff_t x) {
  if (type == Element::kHalf) return static_cast<uint16_t*>(out) + k * stride + x;
  return static_cast<uint32_t*>(out) + k / 2 * stride + x;
}

// What a block multiplies: lines of two channels with their taps, then made lines.
struct Terms16Run {
  const uint32_t* const* taps;
  const uint32_t* const* odd;
  int n_lines, n_taps, n_odd;
  ptrdiff_t stride, offset;  // from line to line; of the first one
  const uint32_t* const* fetched;
  int n_fetched;
  ptrdiff_t pairs() const { return static_cast<ptrdiff_t>(n_lines) * n_taps + n_odd; }
};

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

// Channel k of a block.
template <int NV>
FASTSR_INLINE void conv16_values(const Finish16& f, const I (&sum)[NV], int k, V (&y)[NV]) {
  const V coef = set1(f.coefs[k]), bias = set1(f.biases[k]), slope = set1(f.slopes[k * f.slope_step]);
  const bool steep = f.slopes[k * f.slope_step] > 1.0f;
  FASTSR_UNROLL for (int v = 0; v < NV; v++) {
    const V straight = fma(to_float(sum[v]), coef, bias), sloped = mul(straight, slope);
    y[v] = steep ? min(sloped, straight) : max(sloped, straight);
  }
}

template <int KB, int NV>
FASTSR_INLINE void conv16_halves(const Finish16& f, const I (&sum)[KB][NV], ptrdiff_t x) {
  uint16_t* const out = static_cast<uint16_t*>(f.out) + x;
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    V y[NV];
    conv16_values<NV>(f, sum[k], k, y);
    FASTSR_UNROLL for (int v = 0; v < NV; v++) store(out + k * f.out_stride + v * W, saturated(y[v]));
  }
}

template <int KB, int NV>
FASTSR_INLINE void conv16_store(const Finish16& f, I (&sum)[KB][NV], ptrdiff_t x) {
  if (f.half) return conv16_halves<KB, NV>(f, sum, x);
  const V most = set1(f.most);
  uint32_t* out = static_cast<uint32_t*>(f.out) + x;
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    V y[NV];
    conv16_values<NV>(f, sum[k], k, y);
    FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = whole(y[v], most);
    if (k % 2 == 0 && k + 1 < KB) continue;
    FASTSR_UNROLL for (int v = 0; v < NV; v++) store_words(out + v * W, k % 2 ? words(sum[k - k % 2][v], sum[k][v]) : words(sum[k][v], zero()));
    out += f.out_stride;
  }
}

// Of KB channels and the pixels x .. x + NV * W - 1; w: their packed weights. Without `finish` to m: sums[channel * stride + pixel].
template <class Dot, int KB, int NV>
FASTSR_NOINLINE void conv16_block(const Terms16Run& t, const int16_t* w, ptrdiff_t x, const Finish16* finish, int32_t* m, ptrdiff_t stride) {
  I sum[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = zero();
  }
  ptrdiff_t offset = t.offset + x;
  for (int c = 0; c < t.n_lines; c++, offset += t.stride) {
    if (t.n_fetched > 0) {
      const ptrdiff_t next = c + 1 < t.n_lines ? offset + t.stride : t.offset + x + NV * W;
      for (int i = 0; i < t.n_fetched; i++) {
        FASTSR_UNROLL for (int v = 0; v <= NV; v += 16 / W) FASTSR_PREFETCH_NEAR(t.fetched[i] + next + v * W);
      }
    }
    conv16_taps<Dot, KB, NV>(sum, t.taps, t.n_taps, offset, w);
  }
  if (t.n_odd > 0) conv16_taps<Dot, KB, NV>(sum, t.odd, t.n_odd, x, w);
  if (finish) return conv16_store<KB, NV>(*finish, sum, x);
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) store_sums(m + k * stride + v * W, sum[k][v]);
  }
}

template <class Dot>
struct Conv16Blocks {
  using Block = void (*)(const Terms16Run&, const int16_t*, ptrdiff_t, const Finish16*, int32_t*, ptrdiff_t);
  static constexpr int kChannels = kColumnsMost, kVectorsMost = 12;
  static constexpr int vectors(int kb) { return Dot::kVectors[kb]; }
  template <int KB, int NV>
  static constexpr Block make() {
    static_assert(KB * NV <= kBlockSums, "kVectors");
    return conv16_block<Dot, KB, NV>;
  }
};

// ---- results -------------------------------------------------------------------------------------------------------------------------------------

// Sums of the channels k .. k + n - 1, the pixels x .. x + vectors * W - 1.
struct Sums16 {
  int32_t* m;
  ptrdiff_t stride;
  int k, n;
  ptrdiff_t x;
  int vectors;
  const float* coefs;   // of channel k
  const float* biases;
};

template <int kAct>
FASTSR_INLINE V conv16_act(V y, V low, V high) {
  constexpr Act act = static_cast<Act>(kAct);
  if constexpr (act == Act::kRelu) return max(set1(0.0f), y);
  if constexpr (act == Act::kClip) return min(high, max(low, y));
  if constexpr (act == Act::kLeakyRelu) return max(mul(y, low), y);  // a slope of 0..1
  if constexpr (act == Act::kPRelu) return select(lt(y, set1(0.0f)), mul(y, low), y);
  return y;
}

// Adds a sum that is not the last one to the results begun in `acc`, as large as all of them.
FASTSR_NOINLINE void conv16_add(const Sums16& s, float* acc, bool first) {
  for (int k = 0; k < s.n; k++) {
    const V coef = set1(s.coefs[k]), bias = set1(s.biases[k]);
    for (int v = 0; v < s.vectors; v++) {
      float* const to = acc + k * s.stride + v * W;
      store(to, fma(load_sums(s.m + k * s.stride + v * W), coef, first ? bias : load(to)));
    }
  }
}

// The residual of channel k from pixel x on.
FASTSR_INLINE const void* residual_at(const Conv16Row& r, int k, ptrdiff_t x) {
  if (r.residual_type == Element::kPairs) return static_cast<const uint32_t*>(r.residual) + k / 2 * r.residual_stride + x;
  const ptrdiff_t at = k * r.residual_stride + x;
  return r.residual_type == Element::kHalf ? static_cast<const void*>(static_cast<const uint16_t*>(r.residual) + at)
                                           : static_cast<const float*>(r.residual) + at;
}

// What is added to output channel k at pixel x, of the output's scale.
FASTSR_INLINE V conv16_residual(const Conv16Row& r, int k, ptrdiff_t x) {
  const void* const p = residual_at(r, k, x);
  const V scale = set1(r.residual_scale[k]);
  if (r.residual_type == Element::kHalf) return mul(load(static_cast<const uint16_t*>(p)), scale);
  if (r.residual_type == Element::kFloat) return mul(load(static_cast<const float*>(p)), scale);
  const I both = load_ints(static_cast<const uint32_t*>(p));
  return mul(k % 2 ? high_half(both) : low_half(both), scale);
}

// acc: results begun, or null.
template <int kAct, Element kOut>
FASTSR_NOINLINE void conv16_finish(const Conv16Row& r, const Sums16& s, const float* acc) {
  constexpr int kStep = kOut == Element::kPairs ? 2 : 1;
  const V high = set1(r.b), most = set1(r.most);
  for (int k = 0; k < s.n; k += kStep) {
    const int line = s.k + k, n = k + kStep <= s.n ? kStep : 1;
    V coef[kStep], bias[kStep], low[kStep];
    FASTSR_UNROLL for (int i = 0; i < kStep; i++) {
      coef[i] = set1(i < n ? s.coefs[k + i] : 0.0f);
      bias[i] = set1(i < n ? s.biases[k + i] : 0.0f);
      low[i] = set1(r.act == Act::kPRelu && i < n ? r.slope[line + i] : r.a);
    }
    const int32_t* const m = s.m + k * s.stride;
    for (int v = 0; v < s.vectors; v++) {
      const ptrdiff_t x = s.x + v * W;
      if (r.residual) {
        FASTSR_PREFETCH_NEAR(residual_at(r, line, x + s.vectors * W));  // of the next block of pixels
      }
      V y[kStep];
      FASTSR_UNROLL for (int i = 0; i < kStep; i++) {
        const ptrdiff_t at = (i < n ? i : 0) * s.stride + v * W;
        y[i] = fma(load_sums(m + at), coef[i], acc ? load(acc + k * s.stride + at) : bias[i]);
        const bool more = r.residual && i < n;
        if (more && r.residual_first) y[i] = add(y[i], conv16_residual(r, line + i, x));
        y[i] = conv16_act<kAct>(y[i], low[i], high);
        if (more && !r.residual_first) y[i] = add(y[i], conv16_residual(r, line + i, x));
      }
      if constexpr (kOut == Element::kPairs) {
        const I hi = n == 2 ? whole(y[1], most) : zero();
        store_words(static_cast<uint32_t*>(r.out) + line / 2 * r.out_stride + x, words(whole(y[0], most), hi));
      } else if constexpr (kOut == Element::kHalf) {
        store(static_cast<uint16_t*>(r.out) + line * r.out_stride + x, saturated(y[0]));
      } else {
        store(static_cast<float*>(r.out) + line * r.out_stride + x, y[0]);
      }
    }
  }
}

using Conv16Finish = void (*)(const Conv16Row&, const Sums16&, const float*);

template <int kAct>
FASTSR_INLINE Conv16Finish finish_for(Element out) {
  return out == Element::kPairs ? conv16_finish<kAct, Element::kPairs> : out == Element::kHalf ? conv16_finish<kAct, Element::kHalf>
                                                                                                 : conv16_finish<kAct, Element::kFloat>;
}

FASTSR_INLINE Conv16Finish finish_for(const Conv16Row& r) {
  const Act act = r.act == Act::kLeakyRelu && !(r.a > 0.0f && r.a <= 1.0f) ? Act::kPRelu : r.act;
  switch (act) {
    case Act::kRelu: return finish_for<static_cast<int>(Act::kRelu)>(r.out_type);
    case Act::kLeakyRelu: return finish_for<static_cast<int>(Act::kLeakyRelu)>(r.out_type);
    case Act::kPRelu: return finish_for<static_cast<int>(Act::kPRelu)>(r.out_type);
    case Act::kClip: return finish_for<static_cast<int>(Act::kClip)>(r.out_type);
    case Act::kNone: break;
  }
  return finish_for<static_cast<int>(Act::kNone)>(r.out_type);
}

// ---- all of it -----------------------------------------------------------------------------------------------------------------------------------

// Whether the taps of a line become channels. Then they are all in one block, with the weights in the same order.
FASTSR_INLINE bool conv16_columns(int cin, int cout, int kw) { return cin % 2 == 0 && cout <= 2 && kw > 1 && cout * kw <= kColumnsMost; }

// Words of one line of the scratch: whole vectors, and what a block over-reads.
FASTSR_INLINE size_t scratch_line16(int width) { return round_up(static_cast<size_t>(width), 16) + 2 * kOverRead; }

size_t conv16_scratch(int cin, int kh, int kw, int width) {
  const size_t odd = static_cast<size_t>(terms16(cin, kh, kw).odd), columns = cin % 2 ? 0 : 2 * kColumnsMost;
  const size_t pointers = round_up((static_cast<size_t>(kh) * kw + odd) * sizeof(const uint32_t*), 64);
  return pointers + (odd + columns) * scratch_line16(width) * sizeof(uint32_t) + 64;
}

// Everything that blocks of the row have in common.
struct Call16 {
  const Conv16Row& r;
  Terms16 t;
  const float* coefs;
  const float* biases;
  const int16_t* weights;
  size_t line;  // words of one in the scratch
  const uint32_t** taps;
  const uint32_t** odd;
  uint32_t* lines;  // of the scratch: the made ones, or sums of columns
  int fetched;
  explicit Call16(const Conv16Row& row)
      : r(row), t(terms16(r.cin, r.kh, r.kw)), coefs(r.weights), biases(coefs + round_up(r.cout, 16)),
        weights(reinterpret_cast<const int16_t*>(biases + round_up(r.cout, 16))), line(scratch_line16(r.width)),
        taps(reinterpret_cast<const uint32_t**>(round_up(reinterpret_cast<uintptr_t>(r.scratch), 64))), odd(taps + t.taps),
        lines(reinterpret_cast<uint32_t*>(round_up(reinterpret_cast<uintptr_t>(odd + t.odd), 64))) {
    fetched = r.cin >= 16 && blocks16(r.cout).count == 1 && t.taps > 1 ? r.kh : 0;
    for (int i = 0; i < r.kh; i++)
      for (int j = 0; j < r.kw; j++) taps[i * r.kw + j] = r.lines[i] + static_cast<ptrdiff_t>(j) * r.dilation;
  }
  // Pairs of neighbours in a line of the kernel share one made line, where it does not become too long.
  void make_lines() const {
    const bool shared = r.kw > 1 && r.kw * r.dilation <= kOverRead - W;
    uint32_t* made = lines;
    for (int p = 0, last = -1; p < t.odd; p++, made += line) {
      const int i = 2 * p / r.kw, j = 2 * p % r.kw;
      const uint32_t* const from = r.lines[i] + t.lines * r.in_stride;
      const bool partner = 2 * p + 1 < t.taps, neighbours = j + 1 < r.kw;
      if (shared && (neighbours || !partner)) {
        if (i != last) make_line(made, from, from + r.dilation, r.width + (r.kw - 1) * r.dilation);
        else made -= line;
        last = i;
        odd[p] = made + j * r.dilation;
      } else {
        const uint32_t* const first = from + static_cast<ptrdiff_t>(j) * r.dilation;
        const uint32_t* const next = !partner ? first : neighbours ? first + r.dilation : r.lines[i + 1] + t.lines * r.in_stride;
        make_line(made, first, next, r.width);
        odd[p] = made;
      }
    }
  }
  static void make_line(uint32_t* to, const uint32_t* first, const uint32_t* second, int n) {
    for (int x = 0; x < n; x += W) store_words(to + x, words(load_ints(first + x), load_ints(second + x)));
  }
  // Of a sum.
  Terms16Run run(int sum) const {
    if (t.sums == 1) return {taps, odd, t.lines, t.taps, t.odd, r.in_stride, 0, r.lines, fetched};
    const int begin = t.begin(sum);
    return {taps, odd, t.begin(sum + 1) - begin, t.taps, sum + 1 < t.sums ? 0 : t.odd, r.in_stride, begin * r.in_stride, r.lines, fetched};
  }
};

// Whether blocks can finish by themselves.
FASTSR_INLINE bool conv16_at_once(const Conv16Row& r, const Terms16& t) {
  if (r.out_type == Element::kFloat || r.act == Act::kClip || r.residual || t.sums > 1) return false;
  const auto is_number = [](float slope) { return slope > -1e30f && slope < 1e30f; };
  bool fits = r.act != Act::kLeakyRelu || is_number(r.a);
  for (int k = 0; r.act == Act::kPRelu && k < r.cout; k++) fits = fits && is_number(r.slope[k]);
  return fits;
}

template <class Dot>
FASTSR_NOINLINE void conv16_row(const Call16& call) {
  static constexpr BlockTable<Conv16Blocks<Dot>> kBlocks;
  const Conv16Row& r = call.r;
  const Terms16& t = call.t;
  const Blocks16 blocks = blocks16(r.cout);
  const Conv16Finish finish = finish_for(r);
  const int vectors = (r.width + W - 1) / W, most = Dot::kVectors[blocks.most()], n_x = (vectors + most - 1) / most;
  const bool at_once = conv16_at_once(r, t);
  const float slope = r.act == Act::kNone ? 1.0f : r.act == Act::kRelu ? 0.0f : r.a;
  alignas(64) int32_t m[kBlockSums * W];
  alignas(64) float acc[kBlockSums * W];
  for (int i = 0, v0 = 0; i < n_x; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(vectors) * (i + 1) / n_x), nv = v1 - v0;
    const ptrdiff_t x = v0 * W, stride = nv * W;
    const int16_t* w = call.weights;
    for (int b = 0, k = 0; b < blocks.count; b++) {
      const int kb = blocks.size(b);
      if (at_once) {
        const Terms16Run run = call.run(0);
        const Finish16 own{call.coefs + k, call.biases + k, r.act == Act::kPRelu ? r.slope + k : &slope, r.act == Act::kPRelu, r.most,
                           results_at(r.out, r.out_type, k, r.out_stride, 0), r.out_stride, r.out_type == Element::kHalf};
        kBlocks.block[kb][nv](run, w, x, &own, nullptr, 0);
        w += 2 * kb * run.pairs();
      } else {
        const Sums16 sums{m, stride, k, kb, x, nv, call.coefs + k, call.biases + k};
        for (int s = 0; s < t.sums; s++) {
          const Terms16Run run = call.run(s);
          kBlocks.block[kb][nv](run, w, x, nullptr, m, stride);
          w += 2 * kb * run.pairs();
          if (s + 1 < t.sums) conv16_add(sums, acc, s == 0);
        }
        finish(r, sums, t.sums > 1 ? acc : nullptr);
      }
      k += kb;
    }
    v0 = v1;
  }
}

// The sums of columns go to lines [tap][channel] as long as the row; then those of a channel are added up.
template <class Dot>
FASTSR_NOINLINE void conv16_columns_row(const Call16& call) {
  static constexpr BlockTable<Conv16Blocks<Dot>> kBlocks;
  const Conv16Row& r = call.r;
  const Terms16& t = call.t;
  const Conv16Finish finish = finish_for(r);
  const int columns = r.kw * r.cout, shift = (r.kw - 1) * r.dilation;
  const int vectors = (r.width + W - 1) / W, reach = (r.width + shift + W - 1) / W, most = Dot::kVectors[columns], n_x = (reach + most - 1) / most;
  const ptrdiff_t stride = static_cast<ptrdiff_t>(call.line);
  uint32_t* const m = call.lines;
  int32_t* const to = reinterpret_cast<int32_t*>(m);
  float* const acc = reinterpret_cast<float*>(m + columns * stride);
  const Sums16 sums{to, stride, 0, r.cout, 0, vectors, call.coefs, call.biases};
  const int16_t* w = call.weights;
  for (int s = 0; s < t.sums; s++) {
    Terms16Run run = call.run(s);
    run.taps = r.lines;
    run.n_taps = r.kh;
    for (int i = 0, v0 = 0; i < n_x; i++) {
      const int v1 = static_cast<int>(static_cast<int64_t>(reach) * (i + 1) / n_x);
      kBlocks.block[columns][v1 - v0](run, w, v0 * W, nullptr, to + v0 * W, stride);
      v0 = v1;
    }
    w += 2 * columns * run.pairs();
    for (int k = 0; k < r.cout; k++) {
      uint32_t* const line = m + k * stride;
      for (int x = 0; x < r.width; x += W) {
        I sum = load_ints(line + x);
        for (int j = 1; j < r.kw; j++) sum = add(sum, load_ints(line + j * (r.cout * stride + r.dilation) + x));
        store_words(line + x, sum);
      }
    }
    if (s + 1 < t.sums) conv16_add(sums, acc, s == 0);
  }
  finish(r, sums, t.sums > 1 ? acc : nullptr);
}

template <class Dot>
void conv16(const Conv16Row& r) {
  const Call16 call(r);
  if (conv16_columns(r.cin, r.cout, r.kw) && (r.kw - 1) * r.dilation <= kOverRead) return conv16_columns_row<Dot>(call);
  if (call.t.odd > 0) call.make_lines();
  conv16_row<Dot>(call);
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
