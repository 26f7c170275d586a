// Winograd's F(T, 3) in one dimension for 16-bit integers, T = 4 or 6: T results of a filter of 3 taps from T + 2 inputs with as many multiplications.
//   y = A^T ((G w) * (B^T d))
// Points: T = 4: 0, +-1, 1/2, -2, infinity; T = 6: 0, +-1, +-2, +-1/2, infinity. Of the usual sets they make the smallest error in integers.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

template <int T>
struct Points16;

template <>
struct Points16<4> {
  static constexpr double kFilter[6][3] = {{1, 0, 0}, {1.0 / 3, 1.0 / 3, 1.0 / 3}, {-1.0 / 3, 1.0 / 3, -1.0 / 3}, {-16.0 / 15, -8.0 / 15, -4.0 / 15},
                                           {1.0 / 15, -2.0 / 15, 4.0 / 15}, {0, 0, 1}};  // G
  static constexpr double kWeight[6] = {1, 4, 4, 1.328125, 85, 1};  // of a point in the results' squares: A^T's column
  // The scales of a column of points as `scaled` wants them: those of these points, times the sign.
  static constexpr int kCoefs = 7;
  static constexpr int kCoefPoint[kCoefs] = {0, 1, 2, 2, 3, 4, 5};
  static constexpr float kCoefSign[kCoefs] = {1, 1, 1, -1, 1, 1, 1};

  // B^T d
  FASTSR_INLINE void input(const V (&d)[6], V (&t)[6]) {
    const V k = set1(1.5f), e = sub(d[4], d[2]), f = sub(d[3], d[1]);
    const V p0 = fma(k, d[1], sub(d[2], d[0])), p1 = fma(k, d[2], f), p2 = fma(k, d[3], e), p3 = fma(k, d[4], sub(d[5], d[3]));
    t[0] = sub(p2, p0);
    t[1] = add(p2, p1);
    t[2] = sub(p2, p1);
    t[3] = fma(set1(2.0f), f, e);
    t[4] = fma(set1(-0.5f), f, e);
    t[5] = sub(p3, p1);
  }

  // A^T m of a column of sums, each times its scale; `start` is added to every result.
  FASTSR_INLINE void scaled(const V (&m)[6], const float* c, V start, V (&y)[4]) {
    const V m1 = fma(set1(c[1]), m[1], start), sum = fma(set1(c[2]), m[2], m1), difference = fma(set1(c[3]), m[2], m1);
    finish(fma(set1(c[0]), m[0], sum), sum, fma(set1(c[6]), m[5], difference), difference, mul(set1(c[4]), m[3]), mul(set1(c[5]), m[4]), y);
  }
  // A^T m
  FASTSR_INLINE void output(const V (&m)[6], V (&y)[4]) {
    const V sum = add(m[1], m[2]), difference = sub(m[1], m[2]);
    finish(add(m[0], sum), sum, add(m[5], difference), difference, m[3], m[4], y);
  }
  FASTSR_INLINE void finish(V sum0, V sum, V difference5, V difference, V m3, V m4, V (&y)[4]) {
    y[0] = add(sum0, add(m3, m4));
    y[1] = fma(set1(0.5f), m3, fma(set1(-2.0f), m4, difference));
    y[2] = fma(set1(0.25f), m3, fma(set1(4.0f), m4, sum));
    y[3] = fma(set1(0.125f), m3, fma(set1(-8.0f), m4, difference5));
  }
};

template <>
struct Points16<6> {
  static constexpr double kFilter[8][3] = {{-1, 0, 0}, {-2.0 / 9, -2.0 / 9, -2.0 / 9}, {-2.0 / 9, 2.0 / 9, -2.0 / 9}, {1.0 / 90, 1.0 / 45, 2.0 / 45},
                                           {1.0 / 90, -1.0 / 45, 2.0 / 45}, {32.0 / 45, 16.0 / 45, 8.0 / 45}, {32.0 / 45, -16.0 / 45, 8.0 / 45}, {0, 0, 1}};
  static constexpr double kWeight[8] = {1, 6, 6, 1365, 1365, 1.3330078125, 1.3330078125, 1};
  static constexpr int kCoefs = 11;
  static constexpr int kCoefPoint[kCoefs] = {0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7};
  static constexpr float kCoefSign[kCoefs] = {1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1};

  FASTSR_INLINE void input(const V (&d)[8], V (&t)[8]) {
    const V k = set1(5.25f), l = set1(-4.25f), m = set1(-1.25f), n = set1(-5.0f);
    t[0] = fma(k, sub(d[2], d[4]), sub(d[6], d[0]));
    t[7] = fma(k, sub(d[3], d[5]), sub(d[7], d[1]));
    const V even1 = fma(l, d[4], add(d[2], d[6])), odd1 = fma(l, d[3], add(d[1], d[5]));
    t[1] = add(even1, odd1);
    t[2] = sub(even1, odd1);
    const V even2 = fma(m, d[4], fma(set1(0.25f), d[2], d[6])), odd2 = fma(m, d[3], fma(set1(0.25f), d[1], d[5]));
    t[3] = fma(set1(2.0f), odd2, even2);
    t[4] = fma(set1(-2.0f), odd2, even2);
    const V even3 = fma(n, d[4], fma(set1(4.0f), d[2], d[6])), odd3 = fma(n, d[3], fma(set1(4.0f), d[1], d[5]));
    t[5] = fma(set1(0.5f), odd3, even3);
    t[6] = fma(set1(-0.5f), odd3, even3);
  }

  FASTSR_INLINE void scaled(const V (&m)[8], const float* c, V start, V (&y)[6]) {
    const V m1 = fma(set1(c[1]), m[1], start), m3 = mul(set1(c[4]), m[3]), m5 = mul(set1(c[7]), m[5]);
    const V sum1 = fma(set1(c[2]), m[2], m1), difference1 = fma(set1(c[3]), m[2], m1);
    const V sum2 = fma(set1(c[5]), m[4], m3), difference2 = fma(set1(c[6]), m[4], m3);
    const V sum3 = fma(set1(c[8]), m[6], m5), difference3 = fma(set1(c[9]), m[6], m5);
    finish(fma(set1(c[0]), m[0], sum1), sum1, fma(set1(c[10]), m[7], difference1), difference1, sum2, difference2, sum3, difference3, y);
  }
  FASTSR_INLINE void output(const V (&m)[8], V (&y)[6]) {
    const V sum = add(m[1], m[2]), difference = sub(m[1], m[2]);
    finish(add(m[0], sum), sum, add(m[7], difference), difference, add(m[3], m[4]), sub(m[3], m[4]), add(m[5], m[6]), sub(m[5], m[6]), y);
  }
  FASTSR_INLINE void finish(V sum0, V sum1, V difference7, V difference1, V sum2, V difference2, V sum3, V difference3, V (&y)[6]) {
    y[0] = add(sum0, add(sum2, sum3));
    y[1] = fma(set1(2.0f), difference2, fma(set1(0.5f), difference3, difference1));
    y[2] = fma(set1(4.0f), sum2, fma(set1(0.25f), sum3, sum1));
    y[3] = fma(set1(8.0f), difference2, fma(set1(0.125f), difference3, difference1));
    y[4] = fma(set1(16.0f), sum2, fma(set1(0.0625f), sum3, sum1));
    y[5] = fma(set1(32.0f), difference2, fma(set1(0.03125f), difference3, difference7));
  }
};

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
