// Vectors without instruction set extensions: four floats and plain loops, which a compiler may or may not map to the baseline's registers.
// fma() rounds twice (multiply, then add): a fused one is a slow library call on processors without the instruction. So this set's results differ
// from the other sets' in the last bits; those agree with each other bit for bit.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "macros.h"

#define FASTSR_TARGET scalar
#define FASTSR_TARGET_NAME "scalar"

namespace fastsr {
namespace scalar {
namespace {

constexpr int W = 4;
struct V { float v[W]; };
struct M { uint32_t m[W]; };  // all bits or none

// conv: most channels of a register block, the number that blocks have when it divides the channels, and vectors of a block for each channel count.
constexpr int kConvChannels = 2, kConvPreferred = 2;
constexpr int kConvVectors[] = {0, 2, 2};
// winograd_few: output channels and vectors of a register block.
constexpr int kFewChannels = 2, kFewVectors = 1;

#define FASTSR_LANES(expr) V r; for (int i = 0; i < W; i++) r.v[i] = (expr); return r

FASTSR_INLINE uint32_t bits(float a) { uint32_t u; std::memcpy(&u, &a, 4); return u; }
FASTSR_INLINE float unbits(uint32_t u) { float a; std::memcpy(&a, &u, 4); return a; }

FASTSR_INLINE V load(const float* p) { V r; std::memcpy(r.v, p, sizeof r.v); return r; }
FASTSR_INLINE V load_once(const float* p) { return load(p); }
FASTSR_INLINE void store(float* p, V a) { std::memcpy(p, a.v, sizeof a.v); }
FASTSR_INLINE V set1(float a) { FASTSR_LANES(a); }
FASTSR_INLINE V add(V a, V b) { FASTSR_LANES(a.v[i] + b.v[i]); }
FASTSR_INLINE V sub(V a, V b) { FASTSR_LANES(a.v[i] - b.v[i]); }
FASTSR_INLINE V mul(V a, V b) { FASTSR_LANES(a.v[i] * b.v[i]); }
FASTSR_INLINE V div(V a, V b) { FASTSR_LANES(a.v[i] / b.v[i]); }
FASTSR_INLINE V sqrt(V a) { FASTSR_LANES(std::sqrt(a.v[i])); }
FASTSR_INLINE V fma(V a, V b, V c) { FASTSR_LANES(a.v[i] * b.v[i] + c.v[i]); }
FASTSR_INLINE V max(V a, V b) { FASTSR_LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
FASTSR_INLINE V min(V a, V b) { FASTSR_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
FASTSR_INLINE V select(M m, V a, V b) { FASTSR_LANES(unbits((bits(a.v[i]) & m.m[i]) | (bits(b.v[i]) & ~m.m[i]))); }
FASTSR_INLINE M lt(V a, V b) { M r; for (int i = 0; i < W; i++) r.m[i] = a.v[i] < b.v[i] ? ~0u : 0u; return r; }
FASTSR_INLINE M isnan(V a) { M r; for (int i = 0; i < W; i++) r.m[i] = a.v[i] != a.v[i] ? ~0u : 0u; return r; }

FASTSR_INLINE V abs(V a) { FASTSR_LANES(unbits(bits(a.v[i]) & 0x7fffffffu)); }
FASTSR_INLINE V neg(V a) { FASTSR_LANES(unbits(bits(a.v[i]) ^ 0x80000000u)); }
FASTSR_INLINE V copysign(V mag, V sign) { FASTSR_LANES(unbits((bits(mag.v[i]) & 0x7fffffffu) | (bits(sign.v[i]) & 0x80000000u))); }
FASTSR_INLINE V shl23(V a) { FASTSR_LANES(unbits(bits(a.v[i]) << 23)); }

FASTSR_INLINE V lookup(const float* p, const int32_t* index) { FASTSR_LANES(p[index[i]]); }

FASTSR_INLINE void interleave2(V a, V b, V& lo, V& hi) {
  lo = V{{a.v[0], b.v[0], a.v[1], b.v[1]}};
  hi = V{{a.v[2], b.v[2], a.v[3], b.v[3]}};
}
FASTSR_INLINE void deinterleave2(V lo, V hi, V& a, V& b) {
  a = V{{lo.v[0], lo.v[2], hi.v[0], hi.v[2]}};
  b = V{{lo.v[1], lo.v[3], hi.v[1], hi.v[3]}};
}
// Four vectors <-> their elements 4 i, 4 i + 1, 4 i + 2, 4 i + 3.
FASTSR_INLINE void deinterleave4(V (&v)[4]) {
  for (int i = 0; i < W; i++)
    for (int j = 0; j < i; j++) {
      const float lower = v[i].v[j];
      v[i].v[j] = v[j].v[i];
      v[j].v[i] = lower;
    }
}
FASTSR_INLINE void interleave4(V (&v)[4]) { deinterleave4(v); }
// Elements 1 .. W - 1 of a, then next.
FASTSR_INLINE V push(V a, float next) { return V{{a.v[1], a.v[2], a.v[3], next}}; }
FASTSR_INLINE void interleave3(V a, V b, V c, V& lo, V& mid, V& hi) {
  float p[3 * W];
  for (int i = 0; i < W; i++) {
    p[3 * i] = a.v[i];
    p[3 * i + 1] = b.v[i];
    p[3 * i + 2] = c.v[i];
  }
  lo = load(p), mid = load(p + W), hi = load(p + 2 * W);
}
FASTSR_INLINE void deinterleave3(V lo, V mid, V hi, V& a, V& b, V& c) {
  float p[3 * W];
  store(p, lo), store(p + W, mid), store(p + 2 * W, hi);
  for (int i = 0; i < W; i++) {
    a.v[i] = p[3 * i];
    b.v[i] = p[3 * i + 1];
    c.v[i] = p[3 * i + 2];
  }
}
FASTSR_INLINE void store3(float* p, V a, V b, V c) {
  V lo, mid, hi;
  interleave3(a, b, c, lo, mid, hi);
  store(p, lo), store(p + W, mid), store(p + 2 * W, hi);
}
FASTSR_INLINE void load3(const float* p, V& a, V& b, V& c) { deinterleave3(load(p), load(p + W), load(p + 2 * W), a, b, c); }

FASTSR_INLINE V fused(V a, V b, V c) { FASTSR_LANES(std::fma(a.v[i], b.v[i], c.v[i])); }
FASTSR_INLINE V truncate(V a) { FASTSR_LANES(static_cast<float>(static_cast<int32_t>(a.v[i]))); }

FASTSR_INLINE uint8_t saturated(float a) { return static_cast<uint8_t>(a < 0 ? 0 : a > 255 ? 255 : static_cast<int32_t>(a)); }
FASTSR_INLINE V load_bytes(const uint8_t* p) { FASTSR_LANES(p[i]); }
FASTSR_INLINE void store_bytes(uint8_t* p, V a) {
  for (int i = 0; i < W; i++) p[i] = saturated(a.v[i]);
}
FASTSR_INLINE void load_pixels(const uint8_t* p, V& b, V& g, V& r) {
  for (int i = 0; i < W; i++) {
    b.v[i] = p[3 * i];
    g.v[i] = p[3 * i + 1];
    r.v[i] = p[3 * i + 2];
  }
}
FASTSR_INLINE void store_pixels(uint8_t* p, V b, V g, V r) {
  for (int i = 0; i < W; i++) {
    p[3 * i] = saturated(b.v[i]);
    p[3 * i + 1] = saturated(g.v[i]);
    p[3 * i + 2] = saturated(r.v[i]);
  }
}
#undef FASTSR_LANES

}  // namespace
}  // namespace scalar
}  // namespace fastsr
