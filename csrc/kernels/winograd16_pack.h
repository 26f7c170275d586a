// Packed weights of winograd16.h, which says what they mean.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include <cmath>

#include "blocks16.h"
#include "fast.h"
#include "winograd16_layout.h"
#include "winograd16_points.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

template <int TY, int TX>
FASTSR_INLINE size_t scales_floats(int cin) { return round_up(16 + static_cast<size_t>(pairs_of(cin)) * 2 * points16<TY, TX>(), 16); }
template <int TY, int TX>
FASTSR_INLINE size_t coefs_floats(int cout) { return round_up(static_cast<size_t>(cout) * (TX + 2) * Points16<TY>::kCoefs, 16); }
FASTSR_INLINE size_t point_weights(int cout, int cin) { return round_up(static_cast<size_t>(cout) * pairs_of(cin) * 2, 32); }

template <int TY, int TX>
size_t winograd16_pack_size(int cout, int cin) {
  return (scales_floats<TY, TX>(cin) + coefs_floats<TY, TX>(cout)) * sizeof(float) + points16<TY, TX>() * point_weights(cout, cin) * sizeof(int16_t);
}

// Where the scale of point p and channel c lies among the inputs' scales.
template <int TY, int TX>
FASTSR_INLINE ptrdiff_t scale_at(int p, int c) { return static_cast<ptrdiff_t>(c) * points16<TY, TX>() + p; }

// limit[p] of a channel. Channels that hardly had a value yet may have one later: none is taken for less than 1/16 of the largest one.
FASTSR_INLINE double limit16(const Winograd16Range& range, float margin, int cin, int p, int c) {
  const float* const all = range.largest + static_cast<ptrdiff_t>(p) * cin;
  float most = 0;
  for (int i = 0; i < cin; i++) most = all[i] > most ? all[i] : most;
  const double limit = static_cast<double>(margin) * (all[c] > most / 16 ? all[c] : most / 16);
  return limit > 1e-30 ? limit : 1;
}

// G w G^T times the limits of the channel.
template <int TY, int TX>
FASTSR_INLINE void transform_weights(const float* w, const float* limits, double* u) {
  constexpr auto& gy = Points16<TY>::kFilter;
  constexpr auto& gx = Points16<TX>::kFilter;
  for (int i = 0; i < TY + 2; i++) {
    double line[3];
    for (int x = 0; x < 3; x++) line[x] = gy[i][0] * w[x] + gy[i][1] * w[3 + x] + gy[i][2] * w[6 + x];
    for (int j = 0; j < TX + 2; j++) {
      const int p = i * (TX + 2) + j;
      u[p] = (gx[j][0] * line[0] + gx[j][1] * line[1] + gx[j][2] * line[2]) * static_cast<double>(limits[p]);
    }
  }
}

// Calls fn(p, c, u) for all points and input channels of an output channel with weights w; limits: as s[p] of the packed weights.
template <int TY, int TX, class F>
FASTSR_INLINE void each_weight(const float* w, int cin, const float* limits, const F& fn) {
  double u[points16<TY, TX>()];
  for (int c = 0; c < cin; c++) {
    transform_weights<TY, TX>(w + 9 * c, limits + scale_at<TY, TX>(0, c), u);
    for (int p = 0; p < points16<TY, TX>(); p++) fn(p, c, u[p]);
  }
}

// R. The error of V is that of u[p] / R for every term; U's is limit times v[p] / S. Both have the weight of p in the results' squares.
template <int TY, int TX>
double balance16(const float* w, int cout, int cin, const float* limits, const Winograd16Range& range) {
  constexpr int kPoints2 = points16<TY, TX>();
  double of_v = 0, of_u = 0, power[kPoints2] = {};
  for (int p = 0; p < kPoints2; p++)
    for (int c = 0; c < cin; c++) {
      const double limit = static_cast<double>(limits[scale_at<TY, TX>(p, c)]);
      power[p] += range.tiles > 0 ? range.squares[static_cast<ptrdiff_t>(p) * cin + c] / range.tiles / (limit * limit) : 0.01;
    }
  for (int k = 0; k < cout; k++) {
    double sums[kPoints2] = {}, squares[kPoints2] = {};
    each_weight<TY, TX>(w + static_cast<ptrdiff_t>(k) * cin * 9, cin, limits, [&](int p, int, double u) {
      sums[p] += std::fabs(u);
      squares[p] += u * u;
    });
    for (int p = 0; p < kPoints2; p++) {
      const double times = Points16<TY>::kWeight[p / (TX + 2)] * Points16<TX>::kWeight[p % (TX + 2)];
      of_v += times * squares[p];
      of_u += times * power[p] * sums[p] * sums[p];
    }
  }
  const double r = of_u > 0 ? 46340.95 * std::sqrt(std::sqrt(of_v / of_u)) : 32767;  // 2^15.5
  return r > 32767 ? 32767 : r > 2048 ? std::floor(r / 1024) * 1024 : 2048;  // in steps: the squares' last digits depend on how they were summed up
}

// The scales S of an output channel with weights w.
template <int TY, int TX>
void weight_scales(const float* w, int cin, const float* limits, double r, double (&scales)[points16<TY, TX>()]) {
  constexpr int kPoints2 = points16<TY, TX>();
  constexpr double kMost = 32767;
  const double most_sum = std::floor(2147483647.0 / r);
  double sums[kPoints2] = {}, largest[kPoints2] = {};
  each_weight<TY, TX>(w, cin, limits, [&](int p, int, double u) {
    const double size = std::fabs(u);
    sums[p] += size;
    largest[p] = size > largest[p] ? size : largest[p];
  });
  for (int p = 0; p < kPoints2; p++) {
    scales[p] = 1;
    if (sums[p] > 0) scales[p] = most_sum / sums[p] < kMost / largest[p] ? most_sum / sums[p] : kMost / largest[p];
  }
  for (bool fits = false; !fits;) {  // rounding can make a sum too large
    for (double& sum : sums) sum = 0;
    each_weight<TY, TX>(w, cin, limits, [&](int p, int, double u) { sums[p] += std::fabs(std::nearbyint(u * scales[p])); });
    fits = true;
    for (int p = 0; p < kPoints2; p++) {
      if (!(sums[p] > most_sum)) continue;
      scales[p] *= (most_sum - 0.5) / sums[p];
      fits = false;
    }
  }
}

// Packed: R; from the 17th float on, for each input channel, s[p] of all points, of inputs kept as pairs by their scale; for each output channel and each
// of the columns of points its scales as Points16 wants them; U.
template <int TY, int TX>
void winograd16_pack(void* packed, const float* w, int cout, int cin, const Winograd16Range& range, float margin, const float* in_scale) {
  constexpr int kPoints2 = points16<TY, TX>(), kCoefs = Points16<TY>::kCoefs;
  std::memset(packed, 0, winograd16_pack_size<TY, TX>(cout, cin));
  float* const head = static_cast<float*>(packed);
  float* const limits = head + 16;
  float* coefs = head + scales_floats<TY, TX>(cin);
  int16_t* const u = reinterpret_cast<int16_t*>(coefs + coefs_floats<TY, TX>(cout));
  const size_t point = point_weights(cout, cin);
  const Blocks16 blocks = blocks16(cout);
  const int n_pairs = pairs_of(cin);
  for (int c = 0; c < cin; c++)
    for (int p = 0; p < kPoints2; p++) limits[scale_at<TY, TX>(p, c)] = static_cast<float>(limit16(range, margin, cin, p, c));
  const double r = balance16<TY, TX>(w, cout, cin, limits, range);
  head[0] = static_cast<float>(r);
  for (int b = 0, k = 0; b < blocks.count; b++) {
    const int kb = blocks.size(b);
    int16_t* const block = u + static_cast<size_t>(k) * n_pairs * 2;
    for (int i = 0; i < kb; i++, k++, coefs += (TX + 2) * kCoefs) {
      const float* const row = w + static_cast<size_t>(k) * cin * 9;
      double scale[kPoints2];
      weight_scales<TY, TX>(row, cin, limits, r, scale);
      each_weight<TY, TX>(row, cin, limits, [&](int p, int c, double v) {
        block[p * point + static_cast<size_t>(c / 2) * 2 * kb + 2 * i + c % 2] = static_cast<int16_t>(std::nearbyint(v * scale[p]));
      });
      for (int x = 0; x < TX + 2; x++)
        for (int j = 0; j < kCoefs; j++)
          coefs[x * kCoefs + j] = Points16<TY>::kCoefSign[j] * static_cast<float>(1 / (scale[Points16<TY>::kCoefPoint[j] * (TX + 2) + x] * r));
    }
  }
  for (int i = 0; i < n_pairs * 2 * kPoints2; i++) limits[i] = limits[i] > 0 ? head[0] / limits[i] : 0.0f;
  for (int c = 0; in_scale && c < cin; c++)
    for (int p = 0; p < kPoints2; p++) limits[scale_at<TY, TX>(p, c)] /= in_scale[c];
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
