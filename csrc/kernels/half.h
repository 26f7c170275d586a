// Rows of half floats and of pairs.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "fast.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// Within the half floats' range; NaN stays NaN.
FASTSR_INLINE V saturated(V a) {
  return min(set1(kMostHalf), max(set1(-kMostHalf), a));
}

void half_to_float(float* y, const uint16_t* x, int n) {
  for (int i = 0; i < n; i += W) store(y + i, load(x + i));
}

void float_to_half(uint16_t* y, const float* x, int n) {
  for (int i = 0; i < n; i += W) store(y + i, saturated(load(x + i)));
}

void float_to_pairs(uint32_t* y, const float* x0, const float* x1, int n, float scale0, float scale1, float most) {
  const V s0 = set1(scale0), s1 = set1(scale1), m = set1(most);
  for (int i = 0; i < n; i += W) store_words(y + i, words(whole(mul(load(x0 + i), s0), m), x1 ? whole(mul(load(x1 + i), s1), m) : zero()));
}

void pairs_to_float(float* y0, float* y1, const uint32_t* x, int n, float scale0, float scale1) {
  const V s0 = set1(scale0), s1 = set1(scale1);
  for (int i = 0; i < n; i += W) {
    const I both = load_ints(x + i);
    store(y0 + i, div(low_half(both), s0));
    if (y1) store(y1 + i, div(high_half(both), s1));
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
