// Half floats and 16-bit integers for scalar.h; the contract of the functions is in avx2_int16.h.
#pragma once
#include <cstdint>
#include <cstring>

#include "scalar.h"
#include "tiles.h"

namespace fastsr {
namespace scalar {
namespace {

struct I { int32_t v[W]; };
struct Pairs { int16_t v[2 * W]; };
struct Pair { int16_t v[2]; };

constexpr int kDotChannels = 2, kDotVectors = 2;
constexpr int kRowsChannels = 2;

FASTSR_INLINE float half_value(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, rest = h & 0x7fffu;
  if (rest >= 0x7c00) return unbits(sign | 0x7f800000u | (rest & 0x3ff ? (rest & 0x3ff) << 13 | 0x400000u : 0));
  if (rest >= 0x400) return unbits(sign | ((rest << 13) + 0x38000000u));
  return unbits(sign | bits(static_cast<float>(rest) * 5.9604644775390625e-8f));  // 2^-24
}
FASTSR_INLINE uint16_t half_bits(float a) {
  const uint32_t u = bits(a), sign = u >> 16 & 0x8000, size = u & 0x7fffffffu;
  uint32_t h;
  if (size > 0x7f800000u) {
    h = 0x7e00 | (size >> 13 & 0x3ff);
  } else if (size < 0x38800000u) {  // denormal: adding 1/2 rounds to a multiple of 2^-24
    h = bits(unbits(size) + 0.5f) - bits(0.5f);
  } else {
    h = (size - 0x38000000u + 0xfff + (size >> 13 & 1)) >> 13;
    if (h > 0x7c00) h = 0x7c00;
  }
  return static_cast<uint16_t>(sign | h);
}

FASTSR_INLINE V load(const uint16_t* p) { return V{{half_value(p[0]), half_value(p[1]), half_value(p[2]), half_value(p[3])}}; }
FASTSR_INLINE void store(uint16_t* p, V a) {
  for (int i = 0; i < W; i++) p[i] = half_bits(a.v[i]);
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint16_t>& t, V& a, V& b) {
  for (int i = 0; i < W; i++) {
    a.v[i] = half_value(t.p[T * i + J]);
    b.v[i] = half_value(t.p[T * i + J + 1]);
  }
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, float>& t, V& a, V& b) {
  for (int i = 0; i < W; i++) {
    a.v[i] = t.p[T * i + J];
    b.v[i] = t.p[T * i + J + 1];
  }
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint32_t>& t, I& a, I& b) {
  for (int i = 0; i < W; i++) {
    std::memcpy(&a.v[i], t.p + T * i + J, 4);
    std::memcpy(&b.v[i], t.p + T * i + J + 1, 4);
  }
}

FASTSR_INLINE V load_two(const float* p) { return V{{p[0], p[1], 0, 0}}; }
FASTSR_INLINE V load_two(const uint16_t* p) { return V{{half_value(p[0]), half_value(p[1]), 0, 0}}; }
FASTSR_INLINE I load_two(const uint32_t* p) {
  I r{};
  std::memcpy(r.v, p, 8);
  return r;
}
FASTSR_INLINE void store_two(V a, float* p, float* q) {
  *p = a.v[0];
  *q = a.v[1];
}

template <int T>
FASTSR_INLINE void untile(V (&y)[T]) {
  float all[T * W];
  for (int i = 0; i < T * W; i++) all[i] = y[i % T].v[i / T];
  for (int i = 0; i < T; i++) y[i] = load(all + i * W);
}

// Adding 1.5 * 2^23 leaves no bits for a fraction.
FASTSR_INLINE I whole(V a, V most) {
  I r;
  for (int i = 0; i < W; i++) {
    const float low = a.v[i] > -most.v[i] ? a.v[i] : -most.v[i], x = low < most.v[i] ? low : most.v[i];
    r.v[i] = static_cast<int32_t>(x + 12582912.0f - 12582912.0f);
  }
  return r;
}
FASTSR_INLINE Pairs pairs(I lo, I hi) {
  Pairs r;
  for (int i = 0; i < W; i++) {
    r.v[2 * i] = static_cast<int16_t>(lo.v[i]);
    r.v[2 * i + 1] = static_cast<int16_t>(hi.v[i]);
  }
  return r;
}
FASTSR_INLINE void store_pairs(int16_t* p, Pairs a) { std::memcpy(p, a.v, sizeof a.v); }
FASTSR_INLINE Pairs load_pairs(const int16_t* p) { Pairs r; std::memcpy(r.v, p, sizeof r.v); return r; }
FASTSR_INLINE Pair load_pair(const int16_t* p) { return Pair{{p[0], p[1]}}; }

FASTSR_INLINE I zero() { return I{{0, 0, 0, 0}}; }
FASTSR_INLINE void store_sums(int32_t* p, I a) { std::memcpy(p, a.v, sizeof a.v); }
FASTSR_INLINE V load_sums(const int32_t* p) {
  V r;
  for (int i = 0; i < W; i++) r.v[i] = static_cast<float>(p[i]);
  return r;
}

FASTSR_INLINE I add(I a, I b) {  // modulo 2^32
  for (int i = 0; i < W; i++) a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i]));
  return a;
}
FASTSR_INLINE I sub(I a, I b) {
  for (int i = 0; i < W; i++) a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i]));
  return a;
}
FASTSR_INLINE I add_halves(I a, I b) {
  for (int i = 0; i < W; i++) {
    const uint32_t x = static_cast<uint32_t>(a.v[i]), y = static_cast<uint32_t>(b.v[i]);
    a.v[i] = static_cast<int32_t>(((x + y) & 0xffff) | ((x & 0xffff0000u) + (y & 0xffff0000u)));
  }
  return a;
}
FASTSR_INLINE I sub_halves(I a, I b) {
  for (int i = 0; i < W; i++) {
    const uint32_t x = static_cast<uint32_t>(a.v[i]), y = static_cast<uint32_t>(b.v[i]);
    a.v[i] = static_cast<int32_t>(((x - y) & 0xffff) | ((x & 0xffff0000u) - (y & 0xffff0000u)));
  }
  return a;
}
FASTSR_INLINE V to_float(I a) { return load_sums(a.v); }
FASTSR_INLINE Pairs load_words(const uint32_t* p) { Pairs r; std::memcpy(r.v, p, sizeof r.v); return r; }
FASTSR_INLINE I load_ints(const uint32_t* p) { I r; std::memcpy(r.v, p, sizeof r.v); return r; }
FASTSR_INLINE V as_floats(I a) { V r; std::memcpy(r.v, a.v, sizeof r.v); return r; }
FASTSR_INLINE I as_ints(V a) { I r; std::memcpy(r.v, a.v, sizeof r.v); return r; }
FASTSR_INLINE V low_half(I a) {
  V r;
  for (int i = 0; i < W; i++) r.v[i] = static_cast<float>(static_cast<int16_t>(a.v[i] & 0xffff));
  return r;
}
FASTSR_INLINE V high_half(I a) {
  V r;
  for (int i = 0; i < W; i++) r.v[i] = static_cast<float>(static_cast<int16_t>(static_cast<uint32_t>(a.v[i]) >> 16));
  return r;
}
FASTSR_INLINE I words(I lo, I hi) {
  for (int i = 0; i < W; i++) lo.v[i] = static_cast<int32_t>((static_cast<uint32_t>(lo.v[i]) & 0xffff) | static_cast<uint32_t>(hi.v[i]) << 16);
  return lo;
}
FASTSR_INLINE void store_words(uint32_t* p, I a) { std::memcpy(p, a.v, sizeof a.v); }

struct PlainDot {
  static constexpr int kVectors[] = {0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1}, kRowsVectors[] = {0, 1, 1};
  static constexpr const char* kName = "plain";
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) {
    for (int i = 0; i < W; i++) {  // modulo 2^32: what is read beyond a row's end can be anything
      const uint32_t first = static_cast<uint32_t>(a.v[2 * i] * w.v[0]), second = static_cast<uint32_t>(a.v[2 * i + 1] * w.v[1]);
      sum.v[i] = static_cast<int32_t>(static_cast<uint32_t>(sum.v[i]) + first + second);
    }
    return sum;
  }
};
using QuickDot = PlainDot;

}  // namespace
}  // namespace scalar
}  // namespace fastsr
