// Packed weights of conv16.h, which says what they mean.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include <cmath>

#include "blocks16.h"
#include "fast.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kSumTerms = 384;  // of a sum in 32 bits, unless one line of pairs has more

// The lines of pairs, cut into sums: nearly equal runs of lines. A last line with one channel makes pairs of two taps and is in the last sum.
struct Terms16 {
  int lines, taps, odd, sums;  // lines of two channels; taps of each; pairs of taps of the last, odd channel; sums
  int begin(int sum) const { return static_cast<int>(static_cast<int64_t>(lines) * sum / sums); }
  size_t pairs() const { return static_cast<size_t>(lines) * taps + odd; }
};

FASTSR_INLINE Terms16 terms16(int cin, int kh, int kw) {
  Terms16 t{cin / 2, kh * kw, cin % 2 * ((kh * kw + 1) / 2), 1};
  const int per_sum = kSumTerms / 2 / t.taps > 1 ? kSumTerms / 2 / t.taps : 1;
  if (t.lines > per_sum) t.sums = (t.lines + per_sum - 1) / per_sum;
  return t;
}

// The pair of a term that input channel c and tap (i, j) belong to, and which of the two it is; s: the sum.
struct Place16 {
  size_t pair;
  int half, sum;
};

FASTSR_INLINE Place16 place16(const Terms16& t, int cin, int kw, int c, int i, int j) {
  const int line = c / 2, last = t.sums - 1;
  const int tap = i * kw + j;
  if (line == cin / 2) return {static_cast<size_t>(t.lines) * t.taps + tap / 2, tap % 2, last};
  int sum = 0;
  while (t.begin(sum + 1) <= line) sum++;
  return {static_cast<size_t>(line) * t.taps + tap, c % 2, sum};
}

size_t conv16_pack_size(int cout, int cin, int kh, int kw) {
  return 2 * round_up(cout, 16) * sizeof(float) + round_up(terms16(cin, kh, kw).pairs() * cout, 16) * 2 * sizeof(int16_t);
}

// Calls fn(pair, half, sum, w) for all terms of an output channel with weights w.
template <class F>
FASTSR_INLINE void each_term(const float* w, int cin, int kh, int kw, const F& fn) {
  const Terms16 t = terms16(cin, kh, kw);
  for (int c = 0; c < cin; c++)
    for (int i = 0; i < kh; i++)
      for (int j = 0; j < kw; j++) {
        const Place16 p = place16(t, cin, kw, c, i, j);
        fn(p, c, static_cast<double>(*w++));
      }
}

// Packed: coefs of the output channels, their biases, [block of output channels][pair][channel in block][2] weights.
void conv16_pack(void* packed, const float* w, int cout, int cin, int kh, int kw, const float* bias, const PairScales& in, const float* out_scale) {
  constexpr double kMost = 32767;
  std::memset(packed, 0, conv16_pack_size(cout, cin, kh, kw));
  float* const coefs = static_cast<float*>(packed);
  float* const biases = coefs + round_up(cout, 16);
  int16_t* const u = reinterpret_cast<int16_t*>(biases + round_up(cout, 16));
  const Terms16 t = terms16(cin, kh, kw);
  const Blocks16 blocks = blocks16(cout);
  const size_t terms = static_cast<size_t>(cin) * kh * kw;
  const double most_sum = std::floor(2147483647.0 / static_cast<double>(in.most));
  for (int b = 0, k = 0; b < blocks.count; b++) {
    const int kb = blocks.size(b);
    int16_t* const block = u + 2 * static_cast<size_t>(k) * t.pairs();
    for (int i = 0; i < kb; i++, k++) {
      const float* const row = w + k * terms;
      double largest = 0, scale = 1;
      const auto largest_sum = [&](const auto& term) {
        double most = 0, sum = 0;
        int at = 0;
        each_term(row, cin, kh, kw, [&](const Place16& p, int c, double v) {
          if (p.sum != at) sum = 0;
          at = p.sum;
          sum += std::fabs(term(v / static_cast<double>(in.scale[c])));
          most = sum > most ? sum : most;
        });
        return most;
      };
      each_term(row, cin, kh, kw, [&](const Place16&, int c, double v) {
        const double size = std::fabs(v / static_cast<double>(in.scale[c]));
        largest = size > largest ? size : largest;
      });
      if (largest > 0) {
        const double sum = largest_sum([](double v) { return v; });
        scale = most_sum / sum < kMost / largest ? most_sum / sum : kMost / largest;
        for (;;) {  // rounding can make a sum too large
          const double whole = largest_sum([&](double v) { return std::nearbyint(v * scale); });
          if (!(whole > most_sum)) break;
          scale *= (most_sum - 0.5) / whole;
        }
      }
      each_term(row, cin, kh, kw, [&](const Place16& p, int c, double v) {
        block[(p.pair * kb + i) * 2 + p.half] = static_cast<int16_t>(std::nearbyint(v / static_cast<double>(in.scale[c]) * scale));
      });
      const double out = out_scale ? static_cast<double>(out_scale[k]) : 1;
      coefs[k] = static_cast<float>(out / scale);
      biases[k] = static_cast<float>(bias ? static_cast<double>(bias[k]) * out : 0);
    }
  }
}

// The error of the inputs is that of weight * limit / most for every term; that of the weights is the input / limit * most * the largest sum.
float conv16_most(const float* w, int cout, int cin, int kh, int kw, const float* limits, const double* powers) {
  double of_inputs = 0, of_weights = 0, power = 0;
  for (int c = 0; c < cin; c++) power += powers[c] / (static_cast<double>(limits[c]) * static_cast<double>(limits[c])) * kh * kw;
  for (int k = 0; k < cout; k++) {
    double sum = 0, most = 0;
    int at = 0;
    each_term(w + static_cast<size_t>(k) * cin * kh * kw, cin, kh, kw, [&](const Place16& p, int c, double v) {
      const double size = std::fabs(v) * static_cast<double>(limits[c]);
      of_inputs += size * size;
      if (p.sum != at) sum = 0;
      at = p.sum;
      sum += size;
      most = sum > most ? sum : most;
    });
    of_weights += power * most * most;
  }
  const double most = of_weights > 0 ? 46340.95 * std::sqrt(std::sqrt(of_inputs / of_weights)) : 32767;  // 2^15.5
  return static_cast<float>(most > 32767 ? 32767 : most > 2048 ? std::floor(most / 1024) * 1024 : 2048);  // in steps: powers' last digits may differ
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
