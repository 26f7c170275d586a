// 8-bit integers for neon_int16.h; the contract of the functions is in avx2_int8.h.
#pragma once
#include "neon_int16.h"

namespace fastsr {
namespace neon {
namespace {

// 32 registers: sums, two vectors of each input, weights.
constexpr int kBytesChannels = 8;
constexpr int kBytesVectors[] = {0, 8, 6, 5, 4, 3, 3, 2, 2};

FASTSR_INLINE I nearest(V a) { return vcvtnq_s32_f32(a); }
FASTSR_INLINE I set_ints(int32_t a) { return vdupq_n_s32(a); }
FASTSR_INLINE I up8(I a) { return vshlq_n_s32(a, 8); }
FASTSR_INLINE I byte_of(I a, int n) {
  return vreinterpretq_s32_u32(vandq_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-8 * n)), vdupq_n_u32(255)));
}
FASTSR_INLINE Pairs two_bytes(I a) { return vcombine_s16(vmovn_s32(a), vshrn_n_s32(a, 16)); }  // bytes 0 and 2, of which the others are zero
FASTSR_INLINE Pairs even_bytes(I a) { return two_bytes(vandq_s32(a, vdupq_n_s32(0x00ff00ff))); }
FASTSR_INLINE Pairs odd_bytes(I a) { return even_bytes(vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), 8))); }

}  // namespace
}  // namespace neon
}  // namespace fastsr
