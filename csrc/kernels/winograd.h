// Four output rows of an N x N convolution (N = 3 or 5, stride 1, dilation 1) from N + 3 input rows by Winograd's F(4, N) along y (winograd_transform.h):
// 18 multiply-adds for the four results of a column instead of 36, or 40 instead of 100.
//   T[p] = B^T d    N + 3 rows per input channel, lanes along x: combinations of whole rows, no shuffles
//   M[p] = 1xN convolution of T[p] with (G w)[p], all channels: conv's register blocks with N taps, for each of the N + 3 points p
//   y    = A^T M + bias, then activation, residual and store as in conv
// Where there are few input channels winograd_few.h does the same with M on the stack.
//
// The width is cut into chunks whose T and M stay in the second cache level. Packed weights: for each point conv's packing of the (cout, cin, N)
// transformed weights, on a cache line.
//
// Every element is one fixed sequence of operations, whatever chunk and block it falls into and whichever rows are wanted: results do not depend on
// position in x, width or blocking, nor on the instruction set (scalar apart). A result depends on all lines, through rounding, and on NaN and
// infinities in any of them, so a picture's rows must always be grouped in the same fours.
//
// Body file: included once by each target unit, after a header of csrc/simd; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "conv.h"
#include "kernels.h"
#include "winograd_few.h"
#include "winograd_transform.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kChunkFloats = 32768;  // of T and M together, unless one register block takes more; speed hardly depends on it

size_t winograd_point_floats(int cout, int cin, int size) { return (conv_pack_size(cout, cin, size) + 15) / 16 * 16; }

size_t winograd_pack_size(int cout, int cin, int size) {
  return winograd_few_pays(cin, cout) ? winograd_few_pack_size(cout, cin, size) : (size + 3) * winograd_point_floats(cout, cin, size);
}

template <int N>
void winograd_pack_many(float* packed, const float* w, int cout, int cin) {
  const ChannelBlocks blocks = channel_blocks(cout);
  const size_t point = winograd_point_floats(cout, cin, N);
  for (int b = 0, k0 = 0; b < blocks.count; b++) {  // in conv_pack's order
    const int kb = b < blocks.larger ? blocks.size : blocks.size - 1;
    for (int c = 0; c < cin; c++)
      for (int x = 0; x < N; x++)
        for (int k = 0; k < kb; k++, packed++)
          for (int p = 0; p < N + 3; p++) packed[p * point] = winograd_weight<N>(w + (static_cast<size_t>(k0 + k) * cin + c) * (N * N) + x, p);
    k0 += kb;
  }
}

void winograd_pack(float* packed, const float* w, int cout, int cin, int size) {
  if (winograd_few_pays(cin, cout)) {
    (size == 3 ? winograd_few_pack<3> : winograd_few_pack<5>)(packed, w, cout, cin);
  } else {
    (size == 3 ? winograd_pack_many<3> : winograd_pack_many<5>)(packed, w, cout, cin);
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

FASTSR_INLINE WinogradChunks winograd_chunks(int cin, int cout, int size, int width) {
  WinogradChunks c;
  c.vectors = (width + W - 1) / W;
  const int block = kConvVectors[channel_blocks(cout).size];
  const int fits = static_cast<int>(kChunkFloats / (static_cast<int64_t>(size + 3) * W * (static_cast<int64_t>(cin) + cout)));
  const int limit = fits > block ? fits / block * block : block;
  c.count = (c.vectors + limit - 1) / limit;
  const int most = c.vectors < limit ? c.vectors : limit;  // grows with the width, unlike the widest chunk
  c.t_stride = winograd_stride(most + 1);
  c.m_stride = winograd_stride(most);
  c.t_point = winograd_point(c.t_stride * cin);
  c.m_point = winograd_point(c.m_stride * cout);
  return c;
}

size_t winograd_scratch(int cin, int cout, int size, int width) {
  if (winograd_few_pays(cin, cout)) return winograd_few_scratch(cin, size);
  const WinogradChunks c = winograd_chunks(cin, cout, size, width);
  return static_cast<size_t>((size + 3) * (c.t_point + c.m_point) + 16);
}

// T of `vectors` vectors from pixel x.
template <int P>
FASTSR_NOINLINE void winograd_input(const WinogradRows& r, float* t, ptrdiff_t stride, ptrdiff_t point, int x, int vectors) {
  for (int c = 0; c < r.cin; c++) {
    const ptrdiff_t from = c * r.in_stride + x;
    float* to = t + c * stride;
    for (int v = 0; v < vectors; v++, to += W) {
      V d[P], points[P];
      FASTSR_UNROLL for (int i = 0; i < P; i++) d[i] = load(r.in[i] + from + v * W);
      winograd_bt<kWinogradRows>(d, points);
      FASTSR_UNROLL for (int p = 0; p < P; p++) store(to + p * point, points[p]);
    }
  }
}

template <int P>
FASTSR_NOINLINE void winograd_outputs(const WinogradRows& r, const WinogradResults& rows, const float* m, ptrdiff_t stride, ptrdiff_t point, int x,
                                       int vectors) {
  for (int k = 0; k < r.cout; k++, m += stride) {
    int v = 0;
    for (; v + 2 <= vectors; v += 2) winograd_output<P, 2>(r, rows, m + v * W, point, k, x + v * W);
    if (v < vectors) winograd_output<P, 1>(r, rows, m + v * W, point, k, x + v * W);
  }
}

template <int N>
void winograd_many(const WinogradRows& r) {
  constexpr int P = N + 3;
  const WinogradChunks c = winograd_chunks(r.cin, r.cout, N, r.width);
  float* const t = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  float* const m = t + P * c.t_point;
  const size_t point_weights = winograd_point_floats(r.cout, r.cin, N);
  const WinogradResults rows(r);
  for (int i = 0, v0 = 0; i < c.count; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(c.vectors) * (i + 1) / c.count), nv = v1 - v0;
    winograd_input<P>(r, t, c.t_stride, c.t_point, v0 * W, nv + 1);
    for (int p = 0; p < P; p++) {
      const float* row = t + p * c.t_point;
      const float* taps[N];
      for (int x = 0; x < N; x++) taps[x] = row + x;
      ConvRow conv_row{};
      conv_row.taps = taps;
      conv_row.in_stride = c.t_stride;
      conv_row.n_taps = N;
      conv_row.cin = r.cin;
      conv_row.cout = r.cout;
      conv_row.width = nv * W;
      conv_row.weights = r.weights + p * point_weights;
      conv_row.out = m + p * c.m_point;
      conv_row.out_stride = c.m_stride;
      conv(conv_row);
    }
    winograd_outputs<P>(r, rows, m, c.m_stride, c.m_point, v0 * W, nv);
    v0 = v1;
  }
}

void winograd(const WinogradRows& r) {
  if (winograd_few_pays(r.cin, r.cout)) {
    (r.size == 3 ? winograd_few<3> : winograd_few<5>)(r);
  } else {
    (r.size == 3 ? winograd_many<3> : winograd_many<5>)(r);
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
