// winograd.h's convolution where there are few input channels: then it would read and write M more than compute it.
//
// A register block makes M of KB output channels and NV vectors on the stack and at once the results from it. T is stored once for each tap, shifted by it:
// so all loads are of whole cache lines, and T and the weights are read in the order in which they lie.
//
// Packed weights: [channel block][point][c][tap][channel in block].
//
// Every element is the same sequence of operations as in winograd.h.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "blocks.h"
#include "conv.h"
#include "kernels.h"
#include "winograd_transform.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kFewFloats = 6144;  // of T, all points and taps, unless one register block takes more: less than the first cache level

// Measured with all data in the first cache levels, AVX-512 / AVX2, times winograd.h's rate: 5x5 1->8 1.15 / 1.15, 1->64 1.4 / 1.35, 2->32 1.3 / 1.0,
// 3->64 1.15 / 1.0, 4->64 1.1 / 0.95, 3->16 0.95 / 0.9, 8->64 1.0 / 0.9; 3x3 3->64 1.2 / 1.1, 4->64 1.15 / 1.0.
FASTSR_INLINE bool winograd_few_pays(int cin, int cout) { return cin <= 4 && cout >= 8 * cin; }

FASTSR_INLINE int winograd_few_vectors(int cin, int size) {
  const int fits = kFewFloats / ((size + 3) * size * cin * W) / kFewVectors * kFewVectors;
  return fits > kFewVectors ? fits : kFewVectors;
}

size_t winograd_few_pack_size(int cout, int cin, int size) { return static_cast<size_t>(cout) * cin * size * (size + 3); }

size_t winograd_few_scratch(int cin, int size) {
  const int vectors = winograd_few_vectors(cin, size);
  return static_cast<size_t>((size + 3) * W) * (vectors + 1 + vectors * size * cin) + 16;
}

template <int N>
void winograd_few_pack(float* packed, const float* w, int cout, int cin) {
  for (int k0 = 0; k0 < cout; k0 += kFewChannels) {
    const int k1 = k0 + kFewChannels < cout ? k0 + kFewChannels : cout;
    for (int p = 0; p < N + 3; p++)
      for (int c = 0; c < cin; c++)
        for (int x = 0; x < N; x++)
          for (int k = k0; k < k1; k++) *packed++ = winograd_weight<N>(w + (static_cast<size_t>(k) * cin + c) * (N * N) + x, p);
  }
}

// T of `vectors` vectors from pixel x: [register block][point][c][tap][vector in block]. lines: room for a channel's.
template <int N>
FASTSR_NOINLINE void winograd_few_input(const WinogradRows& r, float* t, float* lines, int x, int vectors) {
  constexpr int P = N + 3;
  const ptrdiff_t line = static_cast<ptrdiff_t>(vectors + 1) * W, block = static_cast<ptrdiff_t>(r.cin) * (P * N * kFewVectors * W);
  for (int c = 0; c < r.cin; c++) {
    const ptrdiff_t from = c * r.in_stride + x;
    for (int v = 0; v <= vectors; v++) {
      V d[P], points[P];
      FASTSR_UNROLL for (int i = 0; i < P; i++) d[i] = load(r.in[i] + from + v * W);
      winograd_bt<kWinogradRows>(d, points);
      FASTSR_UNROLL for (int p = 0; p < P; p++) store(lines + p * line + v * W, points[p]);
    }
    for (int v = 0; v < vectors; v += kFewVectors) {
      const int n = vectors - v < kFewVectors ? vectors - v : kFewVectors;
      for (int p = 0; p < P; p++) {
        float* to = t + v / kFewVectors * block + static_cast<ptrdiff_t>(p * r.cin + c) * (N * W) * n;
        for (int tap = 0; tap < N; tap++)
          for (int j = 0; j < n; j++, to += W) store(to, load(lines + p * line + (v + j) * W + tap));
      }
    }
  }
}

// Output channels k .. k + KB - 1, pixels x .. x + NV * W - 1.
template <int N, int KB, int NV>
FASTSR_NOINLINE void winograd_few_block(const WinogradRows& r, const WinogradResults& results, const float* t, const float* w, int k0, int x) {
  constexpr int P = N + 3;
  alignas(64) float m[P][KB][NV * W];
  for (int p = 0; p < P; p++) {
    V sum[KB][NV];
    FASTSR_UNROLL for (int i = 0; i < KB * NV; i++) sum[i / NV][i % NV] = set1(0.0f);
    for (int c = 0; c < r.cin; c++) {
      FASTSR_UNROLL for (int tap = 0; tap < N; tap++) {
        V in[NV];
        FASTSR_UNROLL for (int v = 0; v < NV; v++) in[v] = load_once(t + (tap * NV + v) * W);
        FASTSR_UNROLL for (int k = 0; k < KB; k++) {
          const V weight = set1(w[tap * KB + k]);
          FASTSR_UNROLL for (int v = 0; v < NV; v++) sum[k][v] = fma(weight, in[v], sum[k][v]);
        }
      }
      t += N * NV * W;
      w += N * KB;
    }
    FASTSR_UNROLL for (int i = 0; i < KB * NV; i++) store(m[p][i / NV] + i % NV * W, sum[i / NV][i % NV]);
  }
  for (int k = 0; k < KB; k++) winograd_output<P, NV>(r, results, m[0][k], KB * NV * W, k0 + k, x);
}

template <int N>
struct FewBlocks {
  using Block = void (*)(const WinogradRows&, const WinogradResults&, const float*, const float*, int, int);
  static constexpr int kChannels = kFewChannels, kVectorsMost = kFewVectors;
  static constexpr int vectors(int) { return kFewVectors; }
  template <int KB, int NV>
  static constexpr Block make() { return winograd_few_block<N, KB, NV>; }
};

template <int N>
void winograd_few(const WinogradRows& r) {
  static constexpr BlockTable<FewBlocks<N>> kBlocks;
  const int vectors = (r.width + W - 1) / W, most = winograd_few_vectors(r.cin, N);
  const ptrdiff_t terms = static_cast<ptrdiff_t>(r.cin) * N * (N + 3);
  float* const t = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  const WinogradResults results(r);
  for (int v0 = 0; v0 < vectors; v0 += most) {
    const int n = vectors - v0 < most ? vectors - v0 : most;
    winograd_few_input<N>(r, t, t + most * terms * W, v0 * W, n);
    const float* w = r.weights;
    for (int k = 0; k < r.cout; k += kFewChannels) {
      const int kb = r.cout - k < kFewChannels ? r.cout - k : kFewChannels;
      for (int v = 0; v < n; v += kFewVectors) {
        const int nv = n - v < kFewVectors ? n - v : kFewVectors;
        kBlocks.block[kb][nv](r, results, t + v * terms * W, w, k, (v0 + v) * W);
      }
      w += kb * terms;
    }
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
