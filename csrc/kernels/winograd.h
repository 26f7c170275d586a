// Four output rows of a 3x3 convolution (stride 1, dilation 1) from six input rows by Winograd's F(4, 3) along y (Lavin and Gray, "Fast algorithms
// for convolutional neural networks", 2016, in one dimension): 18 multiply-adds for the four results of a column instead of 36.
//   T[p] = B^T d    six rows per input channel, lanes along x: combinations of whole rows, no shuffles
//   M[p] = 1x3 convolution of T[p] with (G w)[p], all channels: conv's register blocks with three taps, for each of the six points p
//   y    = A^T M + bias, then activation, residual and store as in conv
//
// Points: 0, +-5/8, +-3/2, infinity. All transform constants are exact in float. Errors against float64, 64 -> 64 channels, inputs and weights random
// around 0, relative to the RMS of the results, in units of 2^-24, worst of 1600 (the direct sum: RMS 7.3, worst 44):
//   0, +-1, +-2       RMS 14.3   worst 121        0, +-1, +-1/2     RMS 13.4   worst 103
//   0, +-1, 1/2, -2   RMS 10.5   worst 55         0, +-5/8, +-3/2   RMS 9.0    worst 49
// On inputs of one sign, as after an activation, the error is about half the direct sum's: its chains are shorter.
//
// The width is cut into chunks whose T and M stay in the second cache level. Packed weights: for each point conv's packing of the (cout, cin, 3)
// transformed weights, on a cache line.
//
// Every element is one fixed sequence of operations, whatever chunk and block it falls into and whichever rows are wanted: results do not depend on
// position in x, width or blocking, nor on the instruction set (scalar apart). A result depends on all six lines, through rounding, and on NaN and
// infinities in any of them, so a picture's rows must always be grouped in the same fours.
//
// Body file: included once by each target unit, after a header of csrc/simd; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "conv.h"
#include "kernels.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kPoints = kWinogradRows + 2;
constexpr float kNear = 0.625f, kFar = 1.5f;  // the finite points other than 0 are +- these
constexpr float kNear2 = kNear * kNear, kFar2 = kFar * kFar, kNear3 = kNear2 * kNear, kFar3 = kFar2 * kFar;
constexpr float kProduct = kNear2 * kFar2, kSum = kNear2 + kFar2;
constexpr int kChunkFloats = 32768;  // of T and M together, unless one register block takes more; speed hardly depends on it

size_t winograd_point_floats(int cout, int cin) { return (conv_pack_size(cout, cin, 3) + 15) / 16 * 16; }

size_t winograd_pack_size(int cout, int cin) { return kPoints * winograd_point_floats(cout, cin); }

// G; in double, rounding is for the product with the weights.
struct WinogradFilter {
  double at[kPoints][3];
  constexpr WinogradFilter() : at{} {
    constexpr double n = kNear, f = kFar, near_scale = 2 * n * n * (n * n - f * f), far_scale = 2 * f * f * (f * f - n * n);
    at[0][0] = 1 / (n * n * f * f);
    for (int p = 1; p < 5; p++) {
      const double scale = p < 3 ? near_scale : far_scale, x = (p % 2 ? 1 : -1) * (p < 3 ? n : f);
      at[p][0] = 1 / scale;
      at[p][1] = x / scale;
      at[p][2] = x * x / scale;
    }
    at[5][2] = 1;
  }
};

void winograd_pack(float* packed, const float* w, int cout, int cin) {
  constexpr WinogradFilter g;
  const ChannelBlocks blocks = channel_blocks(cout);
  const size_t point = winograd_point_floats(cout, cin);
  for (int b = 0, k0 = 0; b < blocks.count; b++) {  // in conv_pack's order
    const int kb = b < blocks.larger ? blocks.size : blocks.size - 1;
    for (int c = 0; c < cin; c++, packed += 3 * kb) {
      float lines[3][3 * kConvChannels];
      for (int k = 0; k < kb; k++)
        for (int y = 0; y < 3; y++)
          for (int x = 0; x < 3; x++) lines[y][x * kb + k] = w[(static_cast<size_t>(k0 + k) * cin + c) * 9 + y * 3 + x];
      for (int p = 0; p < kPoints; p++)
        for (int i = 0; i < 3 * kb; i++)
          packed[p * point + i] = static_cast<float>(g.at[p][0] * lines[0][i] + g.at[p][1] * lines[1][i] + g.at[p][2] * lines[2][i]);
    }
    k0 += kb;
  }
}

struct WinogradChunks {
  int vectors, count;            // of the width; chunks
  ptrdiff_t t_stride, m_stride;  // floats from channel to channel of T and M
  ptrdiff_t t_point, m_point;    // from point to point
};

// The same place of all channels, and of all points, in different sets of the first cache level.
FASTSR_INLINE ptrdiff_t winograd_stride(int vectors) { return (static_cast<ptrdiff_t>(vectors) * W + 15) / 16 / 2 * 32 + 16; }
FASTSR_INLINE ptrdiff_t winograd_point(ptrdiff_t floats) { return (floats + 1023 - 176) / 1024 * 1024 + 176; }

FASTSR_INLINE WinogradChunks winograd_chunks(int cin, int cout, int width) {
  WinogradChunks c;
  c.vectors = (width + W - 1) / W;
  const int block = kConvVectors[channel_blocks(cout).size];
  const int fits = static_cast<int>(kChunkFloats / (static_cast<int64_t>(kPoints) * W * (static_cast<int64_t>(cin) + cout)));
  const int limit = fits > block ? fits / block * block : block;
  c.count = (c.vectors + limit - 1) / limit;
  const int most = c.vectors < limit ? c.vectors : limit;  // grows with the width, unlike the widest chunk
  c.t_stride = winograd_stride(most + 1);
  c.m_stride = winograd_stride(most);
  c.t_point = winograd_point(c.t_stride * cin);
  c.m_point = winograd_point(c.m_stride * cout);
  return c;
}

size_t winograd_scratch(int cin, int cout, int width) {
  const WinogradChunks c = winograd_chunks(cin, cout, width);
  return static_cast<size_t>(kPoints * (c.t_point + c.m_point) + 16);
}

// t = B^T d
FASTSR_INLINE void winograd_bt(const V (&d)[kPoints], V (&t)[kPoints]) {
  const V near = set1(kNear), minus_near = set1(-kNear), minus_near2 = set1(-kNear2);
  const V far = set1(kFar), minus_far = set1(-kFar), minus_far2 = set1(-kFar2);
  const V product = set1(kProduct), minus_sum = set1(-kSum);
  const V even_near = fma(minus_far2, d[2], d[4]), odd_near = fma(minus_far2, d[1], d[3]);
  const V even_far = fma(minus_near2, d[2], d[4]), odd_far = fma(minus_near2, d[1], d[3]);
  t[0] = fma(product, d[0], fma(minus_sum, d[2], d[4]));
  t[1] = fma(near, odd_near, even_near);
  t[2] = fma(minus_near, odd_near, even_near);
  t[3] = fma(far, odd_far, even_far);
  t[4] = fma(minus_far, odd_far, even_far);
  t[5] = fma(product, d[1], fma(minus_sum, d[3], d[5]));
}

// y = A^T m + bias
FASTSR_INLINE void winograd_at(const V (&m)[kPoints], V bias, V (&y)[kWinogradRows]) {
  const V near_sum = add(m[1], m[2]), near_difference = sub(m[1], m[2]);
  const V far_sum = add(m[3], m[4]), far_difference = sub(m[3], m[4]);
  y[0] = add(add(near_sum, far_sum), add(m[0], bias));
  y[1] = fma(set1(kNear), near_difference, fma(set1(kFar), far_difference, bias));
  y[2] = fma(set1(kNear2), near_sum, fma(set1(kFar2), far_sum, bias));
  y[3] = fma(set1(kNear3), near_difference, fma(set1(kFar3), far_difference, add(m[5], bias)));
}

// y = A^T m
FASTSR_INLINE void winograd_at(const V (&m)[kPoints], V (&y)[kWinogradRows]) {
  const V near_sum = add(m[1], m[2]), near_difference = sub(m[1], m[2]);
  const V far_sum = add(m[3], m[4]), far_difference = sub(m[3], m[4]);
  y[0] = add(add(near_sum, far_sum), m[0]);
  y[1] = fma(set1(kNear), near_difference, mul(set1(kFar), far_difference));
  y[2] = fma(set1(kNear2), near_sum, mul(set1(kFar2), far_sum));
  y[3] = fma(set1(kNear3), near_difference, fma(set1(kFar3), far_difference, m[5]));
}

// T of `vectors` vectors from pixel x.
FASTSR_NOINLINE void winograd_input(const WinogradRows& r, float* t, ptrdiff_t stride, ptrdiff_t point, int x, int vectors) {
  for (int c = 0; c < r.cin; c++) {
    const ptrdiff_t from = c * r.in_stride + x;
    float* to = t + c * stride;
    for (int v = 0; v < vectors; v++, to += W) {
      V d[kPoints], points[kPoints];
      FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load(r.in[i] + from + v * W);
      winograd_bt(d, points);
      FASTSR_UNROLL for (int p = 0; p < kPoints; p++) store(to + p * point, points[p]);
    }
  }
}

// NV vectors of output channel k at pixel x; m: its row of the first point there. rows: where the results of each row go, and how.
template <int NV>
FASTSR_INLINE void winograd_output(const WinogradRows& r, const ConvRow* rows, const float* m, ptrdiff_t point, int k, int x) {
  const V bias = set1(r.bias ? r.bias[k] : 0.0f);
  V y[kWinogradRows][1][NV];
  FASTSR_UNROLL for (int v = 0; v < NV; v++) {
    V points[kPoints], sums[kWinogradRows];
    FASTSR_UNROLL for (int p = 0; p < kPoints; p++) points[p] = load(m + p * point + v * W);
    winograd_at(points, bias, sums);
    FASTSR_UNROLL for (int i = 0; i < kWinogradRows; i++) y[i][0][v] = sums[i];
  }
  FASTSR_UNROLL for (int i = 0; i < kWinogradRows; i++) {
    if (i < r.rows) conv_store<1, NV>(rows[i], y[i], k, x);
  }
}

FASTSR_NOINLINE void winograd_outputs(const WinogradRows& r, const ConvRow* rows, const float* m, ptrdiff_t stride, ptrdiff_t point, int x,
                                       int vectors) {
  for (int k = 0; k < r.cout; k++, m += stride) {
    int v = 0;
    for (; v + 2 <= vectors; v += 2) winograd_output<2>(r, rows, m + v * W, point, k, x + v * W);
    if (v < vectors) winograd_output<1>(r, rows, m + v * W, point, k, x + v * W);
  }
}

void winograd(const WinogradRows& r) {
  const WinogradChunks c = winograd_chunks(r.cin, r.cout, r.width);
  float* const t = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  float* const m = t + kPoints * c.t_point;
  const size_t point_weights = winograd_point_floats(r.cout, r.cin);
  ConvRow rows[kWinogradRows];
  for (int i = 0; i < r.rows; i++) {
    static_cast<ConvCommon&>(rows[i]) = r;
    rows[i].residual = r.residual ? r.residual[i] : nullptr;
    rows[i].out = r.out[i];
  }
  for (int i = 0, v0 = 0; i < c.count; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(c.vectors) * (i + 1) / c.count), nv = v1 - v0;
    winograd_input(r, t, c.t_stride, c.t_point, v0 * W, nv + 1);
    for (int p = 0; p < kPoints; p++) {
      const float* row = t + p * c.t_point;
      const float* const taps[3] = {row, row + 1, row + 2};
      ConvRow conv_row{};
      conv_row.taps = taps;
      conv_row.in_stride = c.t_stride;
      conv_row.n_taps = 3;
      conv_row.cin = r.cin;
      conv_row.cout = r.cout;
      conv_row.width = nv * W;
      conv_row.weights = r.weights + p * point_weights;
      conv_row.out = m + p * c.m_point;
      conv_row.out_stride = c.m_stride;
      conv(conv_row);
    }
    winograd_outputs(r, rows, m, c.m_stride, c.m_point, v0 * W, nv);
    v0 = v1;
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
