// Two output rows of a convolution in 16-bit integers, with fewer multiplications than conv16.h by Winograd's F(2, 3) along y, exactly. Of three rows g of the
// kernel and the four lines d that they reach:
//   2 y[0] = (d0 - d2) 2 g0 + (d1 + d2) (g0 + g1 + g2) + (d2 - d1) (g0 - g1 + g2)
//   2 y[1] = (d3 - d1) 2 g2 + (d1 + d2) (g0 + g1 + g2) - (d2 - d1) (g0 - g1 + g2)
// four products instead of six. Two rows that are left take three of four, and one row both of two:
//   2 y[0] = (d0 - d1) 2 g0 + d1 2 (g0 + g1)        2 y[1] = (d2 - d1) 2 g1 + d1 2 (g0 + g1)
// Lines are no larger than half of what 16 bits hold, so that their sums are in range. Sums in 32 bits are exact modulo 2^32, and 2 y fits: so a row's result
// does not depend on which of the two it is.
//
// The lines' sums and differences of a chunk of columns go to scratch; blocks go through them twice, first for what both rows have in common, then for what
// each adds. An odd last input channel, the finish of a row and the cut into several sums are conv16.h's; made lines take only neighbours.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "blocks.h"
#include "conv16.h"
#include "conv16_pack.h"
#include "fast.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// ---- weights -------------------------------------------------------------------------------------------------------------------------------------

// The rows of a kernel in threes and a rest; lines that are made of those of one line of pairs: in common, then two for each group.
struct Groups16 {
  int threes, rest, common, lines;
};

FASTSR_INLINE Groups16 groups16(int kh) {
  const int threes = kh / 3, rest = kh % 3, common = 2 * threes + (rest == 2);
  return {threes, rest, common, common + 2 * (threes + (rest > 0))};
}

FASTSR_INLINE size_t rows16_pairs(int cin, int kh, int kw) { return static_cast<size_t>(groups16(kh).lines) * (cin / 2 * kw + cin % 2 * ((kw + 1) / 2)); }

size_t conv16_rows_pack_size(int cout, int cin, int kh, int kw) {
  return 2 * round_up(cout, 16) * sizeof(float) + round_up(rows16_pairs(cin, kh, kw) * cout, 16) * 2 * sizeof(int16_t);
}

// What the column g of a kernel becomes for one of the lines; row(i): g[i].
template <class F>
FASTSR_INLINE double factor16(const Groups16& groups, int line, const F& row) {
  if (line < 2 * groups.threes) {
    const int first = line / 2 * 3;
    return row(first) + (line % 2 ? -row(first + 1) : row(first + 1)) + row(first + 2);
  }
  const int last = 3 * groups.threes;
  if (line < groups.common) return 2 * (row(last) + row(last + 1));
  const int own = line - groups.common, first = own / 2 * 3;
  return 2 * row(own % 2 == 0 ? first : first + (first < last ? 2 : groups.rest - 1));
}

// Packed: coefs of the output channels, their biases, for each block of output channels the weights in the order in which it takes them.
void conv16_rows_pack(void* packed, const float* w, int cout, int cin, int kh, int kw, const float* bias, const PairScales& in, const float* out_scale) {
  constexpr double kMost = 32767;
  std::memset(packed, 0, conv16_rows_pack_size(cout, cin, kh, kw));
  float* const coefs = static_cast<float*>(packed);
  float* const biases = coefs + round_up(cout, 16);
  int16_t* u = reinterpret_cast<int16_t*>(biases + round_up(cout, 16));
  const Terms16 t = terms16(cin, kh, kw);
  const Groups16 groups = groups16(kh);
  const double most_sum = std::floor(2147483647.0 / 2 / static_cast<double>(in.most));
  const size_t terms = static_cast<size_t>(cin) * kh * kw;
  const auto at = [&](int k, int c, int i, int j) {
    return static_cast<double>(w[k * terms + (static_cast<size_t>(c) * kh + i) * kw + j]) / static_cast<double>(in.scale[c]);
  };
  const auto scale_of = [&](int k) {
    double scale = 0;
    for (;;) {  // rounding can make sums too large
      double largest = 0, largest_sum = 0;
      const auto g = [&](int c, int i, int j) { return scale > 0 ? std::nearbyint(at(k, c, i, j) * scale) : at(k, c, i, j); };
      for (int s = 0; s < t.sums; s++) {
        double sum = 0;
        const int end = s + 1 < t.sums ? 2 * t.begin(s + 1) : cin;
        for (int c = 2 * t.begin(s); c < end; c++)
          for (int j = 0; j < kw; j++) {
            for (int i = 0; i < kh; i++) sum += std::fabs(g(c, i, j));
            for (int line = 0; line < groups.lines; line++) {
              const double size = std::fabs(factor16(groups, line, [&](int i) { return g(c, i, j); }));
              largest = size > largest ? size : largest;
            }
          }
        largest_sum = sum > largest_sum ? sum : largest_sum;
      }
      if (scale > 0 && largest <= kMost && largest_sum <= most_sum) return scale;
      if (!(largest > 0)) return 1.0;
      const bool first = scale == 0;
      const double fits = most_sum / largest_sum < kMost / largest ? most_sum / largest_sum : kMost / largest;
      scale = first ? fits : scale * (1 - 1e-4);
    }
  };
  for (int k0 = 0; k0 < cout; k0 += kRowsChannels) {
    const int kb = cout - k0 < kRowsChannels ? cout - k0 : kRowsChannels;
    double scale[kRowsChannels];
    for (int k = 0; k < kb; k++) {
      scale[k] = scale_of(k0 + k);
      const double out = out_scale ? static_cast<double>(out_scale[k0 + k]) : 1;
      coefs[k0 + k] = static_cast<float>(out / scale[k] / 2);
      biases[k0 + k] = static_cast<float>(bias ? static_cast<double>(bias[k0 + k]) * out : 0);
    }
    const auto put = [&](int line, int c, int j, int half) {
      for (int k = 0; k < kb; k++)
        u[2 * k + half] = static_cast<int16_t>(factor16(groups, line, [&](int i) { return std::nearbyint(at(k0 + k, c, i, j) * scale[k]); }));
    };
    for (int s = 0; s < t.sums; s++)
      for (int pass = 0; pass < 2; pass++) {
        const int first = pass ? groups.common : 0, last = pass ? groups.lines : groups.common;
        for (int c = t.begin(s); c < t.begin(s + 1) + (s + 1 == t.sums && cin % 2); c++)
          for (int line = first; line < last; line += 2)
            for (int j = 0; j < kw; j += c < t.lines ? 1 : 2)
              for (int i = line; i < line + 2 && i < last; i++, u += 2 * kb) {
                put(i, 2 * c, j, 0);
                if (c < t.lines) put(i, 2 * c + 1, j, 1);
                else if (j + 1 < kw) put(i, 2 * c, j + 1, 1);
              }
      }
  }
}

// As conv16_most; weights are rounded to twice the step.
float conv16_rows_most(const float* w, int cout, int cin, int kh, int kw, const float* limits, const double* powers) {
  const float most = std::floor(conv16_most(w, cout, cin, kh, kw, limits, powers) * 0.71f);
  return most < kConv16RowsMost ? most : kConv16RowsMost;
}

// ---- lines ---------------------------------------------------------------------------------------------------------------------------------------

constexpr int kRowsBytes = 28 * 1024;  // of made lines, unless one block takes more

struct Layout16Rows {
  int lines, chunk;  // of the input, an odd channel's included; vectors of a chunk
  ptrdiff_t line;    // words of a made line
};

FASTSR_INLINE Layout16Rows layout16_rows(int cin, int kh, int width) {
  const int lines = pairs_of(cin), vectors = (width + W - 1) / W;
  const int fits = kRowsBytes / (lines * groups16(kh).lines * W * 4), chunk = fits > 3 ? fits / 3 * 3 : 3;
  return {lines, chunk, (vectors < chunk ? vectors : chunk) * W + kConv16RowsReach + 2 * W};
}

size_t conv16_rows_scratch(int cin, int kh, int width) {
  const Layout16Rows l = layout16_rows(cin, kh, width);
  return (static_cast<size_t>(l.lines) * groups16(kh).lines * l.line + kOverRead) * sizeof(uint32_t) + 64;
}

// The made lines of `ROWS` rows of a kernel from x on, for n words: those in common to `to`, those of each row to `own`. next: of an odd channel the
// distance to the right neighbour.
template <int ROWS, bool ODD>
FASTSR_INLINE void make_group16(const uint32_t* const* rows, ptrdiff_t offset, int next, uint32_t* to, uint32_t* own, ptrdiff_t line, int n) {
  const uint32_t *const r0 = rows[0] + offset, *const r1 = rows[1] + offset, *const r2 = rows[ROWS > 1 ? 2 : 1] + offset, *const r3 = rows[ROWS] + offset;
  struct Made {
    I common[2], own[2];
  };
  const auto make = [&](int x) -> Made {
    const I d0 = load_ints(r0 + x), d1 = load_ints(r1 + x);
    if constexpr (ROWS == 1) return {{d0, d1}, {d0, d1}};
    const I d2 = load_ints(r2 + x);
    if constexpr (ROWS == 2) return {{d1, d1}, {sub_halves(d0, d1), sub_halves(d2, d1)}};
    return {{add_halves(d1, d2), sub_halves(d2, d1)}, {sub_halves(d0, d2), sub_halves(load_ints(r3 + x), d1)}};
  };
  for (int x = 0; x < n; x += W) {
    Made made = make(x);
    if constexpr (ODD) {
      const Made second = make(x + next);
      FASTSR_UNROLL for (int i = 0; i < 2; i++) {
        made.common[i] = words(made.common[i], second.common[i]);
        made.own[i] = words(made.own[i], second.own[i]);
      }
    }
    FASTSR_UNROLL for (int i = 0; i < 2; i++) {
      if (i < ROWS - 1) store_words(to + i * line + x, made.common[i]);
      store_words(own + i * line + x, made.own[i]);
    }
  }
}

// All made lines of one line.
template <bool ODD>
FASTSR_NOINLINE void make_lines16(const uint32_t* const* rows, ptrdiff_t offset, int kh, int next, uint32_t* to, ptrdiff_t line, int n) {
  const Groups16 groups = groups16(kh);
  uint32_t* own = to + groups.common * line;
  for (int i = 0; i < groups.threes; i++, rows += 3, to += 2 * line, own += 2 * line) make_group16<3, ODD>(rows, offset, next, to, own, line, n);
  if (groups.rest == 2) make_group16<2, ODD>(rows, offset, next, to, own, line, n);
  if (groups.rest == 1) make_group16<1, ODD>(rows, offset, next, to, own, line, n);
}

// ---- sums ----------------------------------------------------------------------------------------------------------------------------------------

// Made lines that a sum takes.
struct Made16 {
  const uint32_t* first;
  ptrdiff_t line;
  int n_lines;  // of the input, an odd channel's not included
  bool odd;
  Groups16 groups;
  int taps, step;  // of a line: words from one to the next
};

// SETS made lines, one after the other, each to its own set of sums.
template <class Dot, int SETS, int KB, int NV>
FASTSR_INLINE void rows16_taps(I (&sum)[2][KB][NV], const uint32_t* first, ptrdiff_t line, int taps, ptrdiff_t step, const int16_t*& w) {
  FASTSR_NO_UNROLL for (int t = 0; t < taps; t++, first += step) {
    FASTSR_UNROLL for (int set = 0; set < SETS; set++, w += 2 * KB) {
      Pairs in[NV];
      FASTSR_UNROLL for (int v = 0; v < NV; v++) in[v] = load_words(first + set * line + v * W);
      FASTSR_UNROLL for (int k = 0; k < KB; k++) {
        const Pair weight = load_pair(w + 2 * k);
        FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[set][k][v] = Dot::add(sum[set][k][v], in[v], weight);
      }
    }
  }
}

// Twice the results of both rows. Of KB channels and the pixels x .. x + NV * W - 1; w: their weights. finish: of each row, or null; then to
// m: sums[row][channel][pixel].
template <class Dot, int KB, int NV>
FASTSR_NOINLINE void rows16_block(const Made16& made, const int16_t* w, ptrdiff_t x, int rows, const Finish16* finish, int32_t* m) {
  I sum[2][KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[0][k][v] = sum[1][k][v] = zero();
  }
  const Groups16& g = made.groups;
  for (int pass = 0; pass < 2; pass++) {
    const int pairs = pass ? g.threes + (g.rest > 0) : g.threes;
    const uint32_t* first = made.first + x + (pass ? g.common * made.line : 0);
    for (int c = 0; c < made.n_lines + made.odd; c++, first += g.lines * made.line) {
      const bool odd = c == made.n_lines;
      const int taps = odd ? (made.taps + 1) / 2 : made.taps;
      const ptrdiff_t step = odd ? 2 * made.step : made.step;
      for (int i = 0; i < pairs; i++) rows16_taps<Dot, 2, KB, NV>(sum, first + 2 * i * made.line, made.line, taps, step, w);
      if (pass == 0 && g.rest == 2) rows16_taps<Dot, 1, KB, NV>(sum, first + 2 * pairs * made.line, 0, taps, step, w);
    }
    if (pass) break;
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) {
        const I both = sum[0][k][v], one = sum[1][k][v];
        sum[0][k][v] = add(both, one);
        sum[1][k][v] = sub(both, one);
      }
    }
  }
  if (finish) {
    conv16_store<KB, NV>(finish[0], sum[0], x);
    if (rows > 1) conv16_store<KB, NV>(finish[1], sum[1], x);
    return;
  }
  FASTSR_UNROLL for (int i = 0; i < 2; i++) {
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) store_sums(m + ((i * KB + k) * NV + v) * W, sum[i][k][v]);
    }
  }
}

template <class Dot>
struct Rows16Blocks {
  using Block = void (*)(const Made16&, const int16_t*, ptrdiff_t, int, const Finish16*, int32_t*);
  static constexpr int kChannels = kRowsChannels, kVectorsMost = 6;
  static constexpr int vectors(int kb) { return Dot::kRowsVectors[kb]; }
  template <int KB, int NV>
  static constexpr Block make() {
    static_assert(KB * NV <= kBlockSums, "kRowsVectors");
    return rows16_block<Dot, KB, NV>;
  }
};

// ---- all of it -----------------------------------------------------------------------------------------------------------------------------------

template <class Dot>
void conv16_rows(const Conv16Rows& r) {
  static constexpr BlockTable<Rows16Blocks<Dot>> kBlocks;
  const Layout16Rows l = layout16_rows(r.cin, r.kh, r.width);
  const Terms16 t = terms16(r.cin, r.kh, r.kw);
  const Groups16 groups = groups16(r.kh);
  uint32_t* const made = reinterpret_cast<uint32_t*>(round_up(reinterpret_cast<uintptr_t>(r.scratch), 64));
  const float *const coefs = r.weights, *const biases = coefs + round_up(r.cout, 16);
  const int16_t* const weights = reinterpret_cast<const int16_t*>(biases + round_up(r.cout, 16));
  Conv16Row row[2];  // as conv16 would make each
  for (int i = 0; i < 2; i++) {
    Conv16Row& one = row[i];
    static_cast<ConvCommon&>(one) = r;
    one.lines = r.lines;
    one.kh = r.kh, one.kw = r.kw, one.dilation = r.dilation;
    one.residual = r.residual ? r.residual[i < r.rows ? i : 0] : nullptr;
    one.residual_type = r.residual_type;
    one.residual_scale = r.residual_scale;
    one.out = r.out[i < r.rows ? i : 0];
    one.out_type = r.out_type;
    one.most = r.most;
    one.scratch = nullptr;
  }
  const bool at_once = conv16_at_once(row[0], t);
  const Conv16Finish finish = finish_for(row[0]);
  const float slope = r.act == Act::kNone ? 1.0f : r.act == Act::kRelu ? 0.0f : r.a;
  alignas(64) int32_t m[2 * kBlockSums * W];
  alignas(64) float acc[2 * kBlockSums * W];
  const int vectors = (r.width + W - 1) / W, shift = (r.kw - 1) * r.dilation;
  for (int first = 0; first < vectors; first += l.chunk) {
    const int n = vectors - first < l.chunk ? vectors - first : l.chunk;
    for (int c = 0; c < l.lines; c++)
      (c < t.lines ? make_lines16<false> : make_lines16<true>)(r.lines, c * r.in_stride + first * W, r.kh, r.dilation, made + c * groups.lines * l.line,
                                                               l.line, n * W + shift);
    for (int k = 0; k < r.cout; k += kRowsChannels) {
      const int kb = r.cout - k < kRowsChannels ? r.cout - k : kRowsChannels, most = Dot::kRowsVectors[kb], n_x = (n + most - 1) / most;
      const Finish16 like{coefs + k, biases + k, r.act == Act::kPRelu ? r.slope + k : &slope, r.act == Act::kPRelu, r.most, nullptr, r.out_stride,
                          r.out_type == Element::kHalf};
      Finish16 own[2] = {like, like};
      if (at_once)
        for (int i = 0; i < 2; i++) own[i].out = results_at(row[i].out, r.out_type, k, r.out_stride, first * W);
      for (int i = 0, v0 = 0; i < n_x; i++) {
        const int v1 = static_cast<int>(static_cast<int64_t>(n) * (i + 1) / n_x), nv = v1 - v0;
        const int16_t* w = weights + 2 * static_cast<size_t>(k) * rows16_pairs(r.cin, r.kh, r.kw);
        for (int s = 0; s < t.sums; s++) {
          const int begin = t.begin(s), end = t.begin(s + 1);
          const bool odd = s + 1 == t.sums && r.cin % 2;
          const Made16 lines{made + begin * groups.lines * l.line, l.line, end - begin, odd, groups, r.kw, r.dilation};
          kBlocks.block[kb][nv](lines, w, v0 * W, r.rows, at_once ? own : nullptr, m);
          if (at_once) continue;
          w += 2 * static_cast<ptrdiff_t>(kb) * groups.lines * ((end - begin) * r.kw + odd * ((r.kw + 1) / 2));
          for (int y = 0; y < r.rows; y++) {
            const Sums16 sums{m + y * kb * nv * W, nv * W, k, kb, (first + v0) * W, nv, coefs + k, biases + k};
            float* const begun = acc + y * kb * nv * W;
            if (s + 1 < t.sums) conv16_add(sums, begun, s == 0);
            else finish(row[y], sums, t.sums > 1 ? begun : nullptr);
          }
        }
        v0 = v1;
      }
    }
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
