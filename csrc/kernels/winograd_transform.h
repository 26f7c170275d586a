// Winograd's F(T, N) in one dimension, T = 4 and N = 3 or 5, or T = 6 and N = 3 (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016): T
// results of a filter of N taps from P = T + N - 1 inputs with as many multiplications instead of T N.
//   y = A^T ((G w) * (B^T d))
//
// Points: 0, +- the magnitudes of WinogradPoints, infinity. All transform constants are exact in float. Errors of convolutions that do this along y against
// float64, 64 -> 64 channels, inputs and weights random around 0, relative to the RMS of the results, in units of 2^-24, worst of thousands:
//   N = 3 (the direct sum: RMS 7.3, worst 44)
//     0, +-1, +-2       RMS 14.3   worst 121        0, +-1, +-1/2          RMS 13.4   worst 103
//     0, +-1, 1/2, -2   RMS 10.5   worst 55         0, +-5/8, +-3/2        RMS 9.0    worst 49
//   N = 5 (the direct sum: RMS 12.0, worst 142)
//     0, +-1, +-2, +-3  RMS 162    worst 3600       0, +-1/4, +-1, +-2     RMS 45     worst 710
//     0, +-5/8, +-1, +-15/8  RMS 26.5   worst 250   0, +-1/2, +-1, +-2     RMS 23.8   worst 320
// On inputs of one sign, as after an activation, the error is about the direct sum's, or half of it for N = 3: the chains are shorter.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "conv.h"
#include "kernels.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

template <int T, int N>
struct WinogradPoints;
template <>
struct WinogradPoints<4, 3> {
  static constexpr float kMagnitudes[] = {0.625f, 1.5f};
};
template <>
struct WinogradPoints<6, 3> {
  static constexpr float kMagnitudes[] = {0.5f, 1.0f, 2.0f};
};
template <>
struct WinogradPoints<4, 5> {
  static constexpr float kMagnitudes[] = {0.5f, 1.0f, 2.0f};
};

// Point p that is not infinity.
template <int T, int N>
constexpr double winograd_position(int p) {
  return p == 0 ? 0.0 : (p % 2 ? 1.0 : -1.0) * static_cast<double>(WinogradPoints<T, N>::kMagnitudes[(p - 1) / 2]);
}

// G; in double, rounding is for the product with the weights.
template <int T, int N>
struct WinogradFilter {
  static constexpr int kLast = T + N - 2;
  double at[kLast + 1][N];
  constexpr WinogradFilter() : at{} {
    for (int p = 0; p < kLast; p++) {
      double scale = 1, power = 1;
      for (int i = 0; i < kLast; i++) scale *= i == p ? 1 : winograd_position<T, N>(p) - winograd_position<T, N>(i);
      for (int e = 0; e < N; e++) {
        at[p][e] = power / scale;
        power *= winograd_position<T, N>(p);
      }
    }
    at[kLast][N - 1] = 1;
  }
};

// Point p of F(kWinogradRows, N)'s filter whose taps lie N floats apart.
template <int N>
FASTSR_INLINE float winograd_weight(const float* w, int p) {
  static constexpr WinogradFilter<kWinogradRows, N> g;
  double u = 0;
  for (int e = 0; e < N; e++) u += g.at[p][e] * w[e * N];
  return static_cast<float>(u);
}

// Constants of B^T and A^T.
template <int T, int N>
struct WinogradConstants {
  static constexpr int kPairs = (T + N - 2) / 2;
  float all[kPairs + 1];             // the polynomial in x^2 whose zeros are the squares of the magnitudes; lowest power first, the highest is 1
  float others[kPairs][kPairs + 1];  // without magnitude j
  float power[T][kPairs];            // of the magnitudes
  constexpr WinogradConstants() : all{}, others{}, power{} {
    zeros(all, -1);
    for (int j = 0; j < kPairs; j++) {
      zeros(others[j], j);
      for (int i = 0; i < T; i++) power[i][j] = i ? power[i - 1][j] * WinogradPoints<T, N>::kMagnitudes[j] : 1.0f;
    }
  }
  static constexpr void zeros(float (&p)[kPairs + 1], int except) {
    p[0] = 1;
    for (int j = 0, degree = 0; j < kPairs; j++) {
      if (j == except) continue;
      const float zero = WinogradPoints<T, N>::kMagnitudes[j] * WinogradPoints<T, N>::kMagnitudes[j];
      for (int e = ++degree; e >= 0; e--) p[e] = (e ? p[e - 1] : 0.0f) - zero * p[e];
    }
  }
};

// t = B^T d
template <int T, int P>
FASTSR_INLINE void winograd_bt(const V (&d)[P], V (&t)[P]) {
  static constexpr WinogradConstants<T, P + 1 - T> c;
  t[0] = d[P - 2];
  t[P - 1] = d[P - 1];
  FASTSR_UNROLL for (int e = c.kPairs - 1; e >= 0; e--) {
    t[0] = fma(set1(c.all[e]), d[2 * e], t[0]);
    t[P - 1] = fma(set1(c.all[e]), d[2 * e + 1], t[P - 1]);
  }
  FASTSR_UNROLL for (int j = 0; j < c.kPairs; j++) {
    V odd = d[P - 3], even = d[P - 2];
    FASTSR_UNROLL for (int e = c.kPairs - 2; e >= 0; e--) {
      odd = fma(set1(c.others[j][e]), d[2 * e + 1], odd);
      even = fma(set1(c.others[j][e]), d[2 * e + 2], even);
    }
    t[2 * j + 1] = fma(set1(c.power[1][j]), odd, even);
    t[2 * j + 2] = fma(set1(-c.power[1][j]), odd, even);
  }
}

template <bool BIASED, int T, int P>
FASTSR_INLINE void winograd_at(const V (&m)[P], V bias, V (&y)[T]) {
  static constexpr WinogradConstants<T, P + 1 - T> c;
  constexpr int kLast = c.kPairs - 1;
  V sum[c.kPairs], difference[c.kPairs];
  FASTSR_UNROLL for (int j = 0; j <= kLast; j++) {
    sum[j] = add(m[2 * j + 1], m[2 * j + 2]);
    difference[j] = sub(m[2 * j + 1], m[2 * j + 2]);
  }
  y[0] = sum[0];
  FASTSR_UNROLL for (int j = 1; j <= kLast; j++) y[0] = add(y[0], sum[j]);
  y[0] = add(y[0], BIASED ? add(m[0], bias) : m[0]);
  FASTSR_UNROLL for (int i = 1; i < T; i++) {
    const V(&from)[c.kPairs] = i % 2 ? difference : sum;
    const V power = set1(c.power[i][kLast]);
    if (i == T - 1) y[i] = fma(power, from[kLast], BIASED ? add(m[P - 1], bias) : m[P - 1]);
    else y[i] = BIASED ? fma(power, from[kLast], bias) : mul(power, from[kLast]);
    FASTSR_UNROLL for (int j = kLast - 1; j >= 0; j--) y[i] = fma(set1(c.power[i][j]), from[j], y[i]);
  }
}

// y = A^T m + bias
template <int T, int P>
FASTSR_INLINE void winograd_at(const V (&m)[P], V bias, V (&y)[T]) {
  winograd_at<true>(m, bias, y);
}

// y = A^T m
template <int T, int P>
FASTSR_INLINE void winograd_at(const V (&m)[P], V (&y)[T]) {
  winograd_at<false>(m, m[0], y);
}

// Where the results of the rows that are wanted go, and how.
struct WinogradResults {
  ConvRow row[kWinogradRows];
  explicit WinogradResults(const WinogradRows& r) {
    for (int i = 0; i < r.rows; i++) {
      static_cast<ConvCommon&>(row[i]) = r;
      row[i].residual = r.residual ? r.residual[i] : nullptr;
      row[i].out = r.out[i];
    }
  }
};

// NV vectors of output channel k at pixel x; m: its row of the first point there. rows: where the results of each row go, and how.
template <int P, int NV>
FASTSR_INLINE void winograd_output(const WinogradRows& r, const WinogradResults& rows, const float* m, ptrdiff_t point, int k, int x) {
  const V bias = set1(r.bias ? r.bias[k] : 0.0f);
  V y[kWinogradRows][1][NV];
  FASTSR_UNROLL for (int v = 0; v < NV; v++) {
    V points[P], sums[kWinogradRows];
    FASTSR_UNROLL for (int p = 0; p < P; p++) points[p] = load(m + p * point + v * W);
    winograd_at(points, bias, sums);
    FASTSR_UNROLL for (int i = 0; i < kWinogradRows; i++) y[i][0][v] = sums[i];
  }
  FASTSR_UNROLL for (int i = 0; i < kWinogradRows; i++) {
    if (i < r.rows) conv_store<1, NV>(rows.row[i], y[i], k, x);
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
