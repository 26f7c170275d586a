// Four floats: AArch64 Advanced SIMD, part of every AArch64 processor, so no target region. The contract of the functions is in avx2.h; max and min
// are compare and select because FMAX and FMIN treat NaN and signed zeros differently from it.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "macros.h"

#define FASTSR_TARGET neon
#define FASTSR_TARGET_NAME "neon"

namespace fastsr {
namespace neon {
namespace {

constexpr int W = 4;
using V = float32x4_t;
using M = uint32x4_t;

// conv: most channels of a register block, the number that blocks have when it divides the channels, and vectors of a block for each channel count.
// 32 registers.
constexpr int kConvChannels = 8, kConvPreferred = 8;
constexpr int kConvVectors[] = {0, 12, 10, 7, 6, 5, 4, 3, 3};
// winograd_few: output channels and vectors of a register block.
constexpr int kFewChannels = 8, kFewVectors = 2;

FASTSR_INLINE V load(const float* p) { return vld1q_f32(p); }
FASTSR_INLINE V load_once(const float* p) { V a = load(p); FASTSR_OPAQUE("w", a); return a; }  // not again at each use
FASTSR_INLINE void store(float* p, V a) { vst1q_f32(p, a); }
FASTSR_INLINE V set1(float a) { return vdupq_n_f32(a); }
FASTSR_INLINE V add(V a, V b) { return vaddq_f32(a, b); }
FASTSR_INLINE V sub(V a, V b) { return vsubq_f32(a, b); }
FASTSR_INLINE V mul(V a, V b) { return vmulq_f32(a, b); }
FASTSR_INLINE V div(V a, V b) { return vdivq_f32(a, b); }
FASTSR_INLINE V sqrt(V a) { return vsqrtq_f32(a); }
FASTSR_INLINE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
FASTSR_INLINE M lt(V a, V b) { return vcltq_f32(a, b); }
FASTSR_INLINE M isnan(V a) { return vmvnq_u32(vceqq_f32(a, a)); }
FASTSR_INLINE V select(M m, V a, V b) { return vbslq_f32(m, a, b); }
FASTSR_INLINE V max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
FASTSR_INLINE V min(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
FASTSR_INLINE V abs(V a) { return vabsq_f32(a); }
FASTSR_INLINE V neg(V a) { return vnegq_f32(a); }
FASTSR_INLINE V copysign(V mag, V sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, mag); }
FASTSR_INLINE V shl23(V a) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 23)); }

FASTSR_INLINE V lookup(const float* p, const int32_t* index) {
  const uint32x4_t i = vreinterpretq_u32_s32(vsubq_s32(vld1q_s32(index), vdupq_n_s32(index[0])));
  if (vmaxvq_u32(i) < 8) {
    const uint8x16_t bytes = vreinterpretq_u8_u32(vaddq_u32(vmulq_n_u32(i, 0x04040404u), vdupq_n_u32(0x03020100u)));
    uint8x16x2_t window;
    window.val[0] = vreinterpretq_u8_f32(load(p + index[0]));
    window.val[1] = vreinterpretq_u8_f32(load(p + index[0] + W));
    return vreinterpretq_f32_u8(vqtbl2q_u8(window, bytes));
  }
  const float lanes[W] = {p[index[0]], p[index[1]], p[index[2]], p[index[3]]};
  return load(lanes);
}

FASTSR_INLINE void interleave2(V a, V b, V& lo, V& hi) {
  lo = vzip1q_f32(a, b);
  hi = vzip2q_f32(a, b);
}
FASTSR_INLINE void deinterleave2(V lo, V hi, V& a, V& b) {
  a = vuzp1q_f32(lo, hi);
  b = vuzp2q_f32(lo, hi);
}
// Four vectors <-> their elements 4 i, 4 i + 1, 4 i + 2, 4 i + 3.
FASTSR_INLINE void deinterleave4(V (&v)[4]) {
  V a, b, c, d;
  deinterleave2(v[0], v[1], a, b);
  deinterleave2(v[2], v[3], c, d);
  deinterleave2(a, c, v[0], v[2]);
  deinterleave2(b, d, v[1], v[3]);
}
FASTSR_INLINE void interleave4(V (&v)[4]) { deinterleave4(v); }
// Elements 1 .. W - 1 of a, then next.
FASTSR_INLINE V push(V a, float next) { return vextq_f32(a, set1(next), 1); }
FASTSR_INLINE void store3(float* p, V a, V b, V c) {
  float32x4x3_t v;
  v.val[0] = a;
  v.val[1] = b;
  v.val[2] = c;
  vst3q_f32(p, v);
}
FASTSR_INLINE void load3(const float* p, V& a, V& b, V& c) {
  const float32x4x3_t v = vld3q_f32(p);
  a = v.val[0];
  b = v.val[1];
  c = v.val[2];
}
FASTSR_INLINE void interleave3(V a, V b, V c, V& lo, V& mid, V& hi) {
  float p[3 * W];
  store3(p, a, b, c);
  lo = load(p), mid = load(p + W), hi = load(p + 2 * W);
}
FASTSR_INLINE void deinterleave3(V lo, V mid, V hi, V& a, V& b, V& c) {
  float p[3 * W];
  store(p, lo), store(p + W, mid), store(p + 2 * W, hi);
  load3(p, a, b, c);
}

FASTSR_INLINE V fused(V a, V b, V c) { return fma(a, b, c); }
FASTSR_INLINE V truncate(V a) { return vrndq_f32(a); }

FASTSR_INLINE uint8x16_t spread(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  const uint8_t index[16] = {a, 255, 255, 255, b, 255, 255, 255, c, 255, 255, 255, d, 255, 255, 255};
  return vld1q_u8(index);
}
FASTSR_INLINE V load_bytes(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))))));
}
FASTSR_INLINE void store_bytes(uint8_t* p, V a) {
  const int16x4_t words = vqmovn_s32(vcvtq_s32_f32(a));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vqmovun_s16(vcombine_s16(words, words))), 0);
  std::memcpy(p, &four, 4);
}
FASTSR_INLINE void load_pixels(const uint8_t* p, V& b, V& g, V& r) {
  uint32_t last;
  std::memcpy(&last, p + 8, 4);
  const uint8x16_t pixels = vcombine_u8(vld1_u8(p), vreinterpret_u8_u32(vdup_n_u32(last)));
  b = vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(pixels, spread(0, 3, 6, 9))));
  g = vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(pixels, spread(1, 4, 7, 10))));
  r = vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(pixels, spread(2, 5, 8, 11))));
}
FASTSR_INLINE void store_pixels(uint8_t* p, V b, V g, V r) {
  const int16x4_t red = vqmovn_s32(vcvtq_s32_f32(r));
  const uint8x8_t bg = vqmovun_s16(vcombine_s16(vqmovn_s32(vcvtq_s32_f32(b)), vqmovn_s32(vcvtq_s32_f32(g))));
  const uint8_t order[16] = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, 255, 255, 255, 255};
  const uint8x16_t pixels = vqtbl1q_u8(vcombine_u8(bg, vqmovun_s16(vcombine_s16(red, red))), vld1q_u8(order));
  vst1_u8(p, vget_low_u8(pixels));
  const uint32_t last = vgetq_lane_u32(vreinterpretq_u32_u8(pixels), 2);
  std::memcpy(p + 8, &last, 4);
}

}  // namespace
}  // namespace neon
}  // namespace fastsr
