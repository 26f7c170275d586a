// Half floats and 16-bit integers for neon.h; the contract of the functions is in avx2_int16.h. Pairs hold the first of four pairs, then the second ones.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "neon.h"
#include "tiles.h"

namespace fastsr {
namespace neon {
namespace {

using I = int32x4_t;
using Pairs = int16x8_t;
using Pair = int16x4_t;

// 32 registers: 24 sums, 3 vectors of inputs, weights.
constexpr int kDotChannels = 8, kDotVectors = 3;
constexpr int kRowsChannels = 4;

FASTSR_INLINE V load(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
FASTSR_INLINE void store(uint16_t* p, V a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint16_t>& t, V& a, V& b) {
  uint16_t even[4], odd[4];
  for (int i = 0; i < 4; i++) {
    even[i] = t.p[T * i + J];
    odd[i] = t.p[T * i + J + 1];
  }
  a = load(even);
  b = load(odd);
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, float>& t, V& a, V& b) {
  const V x = vcombine_f32(vld1_f32(t.p + J), vld1_f32(t.p + T + J)), y = vcombine_f32(vld1_f32(t.p + 2 * T + J), vld1_f32(t.p + 3 * T + J));
  a = vuzp1q_f32(x, y);
  b = vuzp2q_f32(x, y);
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint32_t>& t, I& a, I& b) {
  V x, y;
  residues<J>(Groups<T, float>{reinterpret_cast<const float*>(t.p)}, x, y);
  a = vreinterpretq_s32_f32(x);
  b = vreinterpretq_s32_f32(y);
}

FASTSR_INLINE V load_two(const float* p) { return vcombine_f32(vld1_f32(p), vdup_n_f32(0.0f)); }
FASTSR_INLINE V load_two(const uint16_t* p) {
  const uint16_t four[4] = {p[0], p[1], 0, 0};
  return load(four);
}
FASTSR_INLINE I load_two(const uint32_t* p) { return vreinterpretq_s32_u32(vcombine_u32(vld1_u32(p), vdup_n_u32(0))); }
FASTSR_INLINE void store_two(V a, float* p, float* q) {
  vst1q_lane_f32(p, a, 0);
  vst1q_lane_f32(q, a, 1);
}

FASTSR_INLINE void untile(V (&y)[4]) { interleave4(y); }
FASTSR_INLINE void untile(V (&y)[6]) {
  V q[6];
  for (int i = 0; i < 6; i += 2) interleave2(y[i], y[i + 1], q[i / 2], q[3 + i / 2]);
  for (int i = 0; i < 6; i += 3) {
    y[i] = vcombine_f32(vget_low_f32(q[i]), vget_low_f32(q[i + 1]));
    y[i + 1] = vcombine_f32(vget_low_f32(q[i + 2]), vget_high_f32(q[i]));
    y[i + 2] = vcombine_f32(vget_high_f32(q[i + 1]), vget_high_f32(q[i + 2]));
  }
}

FASTSR_INLINE I whole(V a, V most) { return vcvtnq_s32_f32(min(max(a, neg(most)), most)); }
FASTSR_INLINE Pairs pairs(I lo, I hi) { return vcombine_s16(vmovn_s32(lo), vmovn_s32(hi)); }
FASTSR_INLINE void store_pairs(int16_t* p, Pairs a) { vst1q_s16(p, a); }
FASTSR_INLINE Pairs load_pairs(const int16_t* p) { return vld1q_s16(p); }
FASTSR_INLINE Pair load_pair(const int16_t* p) {
  int32_t both;
  std::memcpy(&both, p, 4);
  return vreinterpret_s16_s32(vdup_n_s32(both));
}

FASTSR_INLINE I zero() { return vdupq_n_s32(0); }
FASTSR_INLINE void store_sums(int32_t* p, I a) { vst1q_s32(p, a); }
FASTSR_INLINE V load_sums(const int32_t* p) { return vcvtq_f32_s32(vld1q_s32(p)); }

FASTSR_INLINE I add(I a, I b) { return vaddq_s32(a, b); }
FASTSR_INLINE I sub(I a, I b) { return vsubq_s32(a, b); }
FASTSR_INLINE I add_halves(I a, I b) { return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b))); }
FASTSR_INLINE I sub_halves(I a, I b) { return vreinterpretq_s32_s16(vsubq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b))); }
FASTSR_INLINE V to_float(I a) { return vcvtq_f32_s32(a); }
FASTSR_INLINE Pairs load_words(const uint32_t* p) {
  const int16x8_t a = vreinterpretq_s16_u32(vld1q_u32(p));
  return vcombine_s16(vmovn_s32(vreinterpretq_s32_s16(a)), vshrn_n_s32(vreinterpretq_s32_s16(a), 16));
}
FASTSR_INLINE I load_ints(const uint32_t* p) { return vreinterpretq_s32_u32(vld1q_u32(p)); }
FASTSR_INLINE V as_floats(I a) { return vreinterpretq_f32_s32(a); }
FASTSR_INLINE I as_ints(V a) { return vreinterpretq_s32_f32(a); }
FASTSR_INLINE V low_half(I a) { return vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(a, 16), 16)); }
FASTSR_INLINE V high_half(I a) { return vcvtq_f32_s32(vshrq_n_s32(a, 16)); }
FASTSR_INLINE I words(I lo, I hi) { return vsliq_n_s32(lo, hi, 16); }
FASTSR_INLINE void store_words(uint32_t* p, I a) { vst1q_u32(p, vreinterpretq_u32_s32(a)); }

struct PlainDot {
  static constexpr int kVectors[] = {0, 12, 10, 7, 6, 5, 4, 3, 3, 2, 2}, kRowsVectors[] = {0, 6, 5, 4, 3};
  static constexpr const char* kName = "plain";
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) { return vmlal_high_lane_s16(vmlal_lane_s16(sum, vget_low_s16(a), w, 0), a, w, 1); }
};
using QuickDot = PlainDot;

}  // namespace
}  // namespace neon
}  // namespace fastsr
