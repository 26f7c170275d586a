// Rows of half floats.
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
  constexpr float kHalfMax = 65504.0f;
  return min(set1(kHalfMax), max(set1(-kHalfMax), a));
}

void half_to_float(float* y, const uint16_t* x, int n) {
  for (int i = 0; i < n; i += W) store(y + i, load(x + i));
}

void float_to_half(uint16_t* y, const float* x, int n) {
  for (int i = 0; i < n; i += W) store(y + i, saturated(load(x + i)));
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
