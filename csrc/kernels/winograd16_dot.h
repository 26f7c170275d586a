// The sums M of winograd16.h, which says where everything lies.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "blocks.h"
#include "winograd16_pack.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// One point of KB output channels and NV vectors of tiles. ahead: weights that are wanted soon.
template <class Dot, int KB, int NV>
FASTSR_NOINLINE void dot_block(const int16_t* v, const int16_t* u, int n_pairs, int32_t* m, ptrdiff_t channel, const int16_t* ahead) {
  I sum[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int i = 0; i < NV; i++) sum[k][i] = zero();
  }
  for (; n_pairs > 0; n_pairs--, v += NV * 2 * W, u += 2 * KB, ahead += 2 * KB) {
    FASTSR_PREFETCH(ahead);
    Pairs in[NV];
    FASTSR_UNROLL for (int i = 0; i < NV; i++) in[i] = load_pairs(v + i * 2 * W);
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      const Pair weight = load_pair(u + 2 * k);
      FASTSR_UNROLL for (int i = 0; i < NV; i++) sum[k][i] = Dot::add(sum[k][i], in[i], weight);
    }
  }
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int i = 0; i < NV; i++) store_sums(m + k * channel + i * kPoints2 * W, sum[k][i]);
  }
}

template <class Dot>
struct DotBlocks {
  using Block = void (*)(const int16_t*, const int16_t*, int, int32_t*, ptrdiff_t, const int16_t*);
  static constexpr int kChannels = kDotChannels, kVectorsMost = kDotVectors;
  static constexpr int vectors(int) { return kDotVectors; }
  template <int KB, int NV>
  static constexpr Block make() { return dot_block<Dot, KB, NV>; }
};

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
