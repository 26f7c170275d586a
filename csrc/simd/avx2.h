// Eight floats: AVX2 and FMA3. Including this file opens a region in which every function is compiled for that instruction set, whatever the
// compiler's flags are; the target unit closes it. Standard headers must come before.
//
// max(a, b) is a > b ? a : b and min(a, b) is a < b ? a : b, in every instruction set: b where either is NaN or both are zero.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "macros.h"

#define FASTSR_TARGET avx2
#define FASTSR_TARGET_NAME "avx2"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace fastsr {
namespace avx2 {
namespace {

constexpr int W = 8;
using V = __m256;
using M = __m256;

// conv: most channels of a register block, the number that blocks have when it divides the channels, and vectors of a block for each channel count.
// 16 registers.
constexpr int kConvChannels = 6, kConvPreferred = 4;
constexpr int kConvVectors[] = {0, 8, 5, 3, 3, 2, 2};
// winograd_few: output channels and vectors of a register block.
constexpr int kFewChannels = 4, kFewVectors = 2;

FASTSR_INLINE V load(const float* p) { return _mm256_loadu_ps(p); }
FASTSR_INLINE V load_once(const float* p) { V a = load(p); FASTSR_OPAQUE("x", a); return a; }  // not again at each use
FASTSR_INLINE void store(float* p, V a) { _mm256_storeu_ps(p, a); }
FASTSR_INLINE V set1(float a) { return _mm256_set1_ps(a); }
FASTSR_INLINE V add(V a, V b) { return _mm256_add_ps(a, b); }
FASTSR_INLINE V sub(V a, V b) { return _mm256_sub_ps(a, b); }
FASTSR_INLINE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
FASTSR_INLINE V div(V a, V b) { return _mm256_div_ps(a, b); }
FASTSR_INLINE V sqrt(V a) { return _mm256_sqrt_ps(a); }
FASTSR_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
FASTSR_INLINE V max(V a, V b) { return _mm256_max_ps(a, b); }
FASTSR_INLINE V min(V a, V b) { return _mm256_min_ps(a, b); }
FASTSR_INLINE M lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
FASTSR_INLINE M isnan(V a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
FASTSR_INLINE V select(M m, V a, V b) { return _mm256_blendv_ps(b, a, m); }
FASTSR_INLINE V sign_bit() { return _mm256_set1_ps(-0.0f); }
FASTSR_INLINE V abs(V a) { return _mm256_andnot_ps(sign_bit(), a); }
FASTSR_INLINE V neg(V a) { return _mm256_xor_ps(sign_bit(), a); }
FASTSR_INLINE V copysign(V mag, V sign) { return _mm256_or_ps(_mm256_andnot_ps(sign_bit(), mag), _mm256_and_ps(sign_bit(), sign)); }
FASTSR_INLINE V shl23(V a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23)); }

// p[index[0]] .. p[index[W - 1]]. Where no index is below the first one or far above it, a window of two vectors from there is loaded and permuted,
// which is cheaper than gathering.
FASTSR_INLINE V lookup(const float* p, const int32_t* index) {
  const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), i = _mm256_sub_epi32(all, _mm256_set1_epi32(index[0]));
  if (!_mm256_testz_si256(i, _mm256_set1_epi32(~15))) return _mm256_i32gather_ps(p, all, 4);
  const V lo = _mm256_permutevar8x32_ps(load(p + index[0]), i), hi = _mm256_permutevar8x32_ps(load(p + index[0] + W), i);
  return _mm256_blendv_ps(lo, hi, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}

FASTSR_INLINE void interleave2(V a, V b, V& lo, V& hi) {
  const V l = _mm256_unpacklo_ps(a, b), h = _mm256_unpackhi_ps(a, b);
  lo = _mm256_permute2f128_ps(l, h, 0x20);
  hi = _mm256_permute2f128_ps(l, h, 0x31);
}
FASTSR_INLINE void deinterleave2(V lo, V hi, V& a, V& b) {
  const V l = _mm256_permute2f128_ps(lo, hi, 0x20), h = _mm256_permute2f128_ps(lo, hi, 0x31);
  a = _mm256_shuffle_ps(l, h, 0x88);
  b = _mm256_shuffle_ps(l, h, 0xdd);
}
// Four vectors <-> their elements 4 i, 4 i + 1, 4 i + 2, 4 i + 3.
FASTSR_INLINE void transpose4(V (&v)[4]) {  // in both halves
  const V a = _mm256_unpacklo_ps(v[0], v[1]), b = _mm256_unpackhi_ps(v[0], v[1]), c = _mm256_unpacklo_ps(v[2], v[3]), d = _mm256_unpackhi_ps(v[2], v[3]);
  v[0] = _mm256_shuffle_ps(a, c, 0x44);
  v[1] = _mm256_shuffle_ps(a, c, 0xee);
  v[2] = _mm256_shuffle_ps(b, d, 0x44);
  v[3] = _mm256_shuffle_ps(b, d, 0xee);
}
FASTSR_INLINE void deinterleave4(V (&v)[4]) {
  transpose4(v);
  FASTSR_UNROLL for (int i = 0; i < 4; i++) v[i] = _mm256_permutevar8x32_ps(v[i], _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
FASTSR_INLINE void interleave4(V (&v)[4]) {
  FASTSR_UNROLL for (int i = 0; i < 4; i++) v[i] = _mm256_permutevar8x32_ps(v[i], _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
  transpose4(v);
}
// Elements 1 .. W - 1 of a, then next.
FASTSR_INLINE V push(V a, float next) {
  return _mm256_blend_ps(_mm256_permutevar8x32_ps(a, _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0)), set1(next), 0x80);
}
FASTSR_INLINE void blends3(V lo, V mid, V hi, V& a, V& b, V& c) {
  a = _mm256_blend_ps(_mm256_blend_ps(lo, mid, 0x92), hi, 0x24);
  b = _mm256_blend_ps(_mm256_blend_ps(lo, mid, 0x24), hi, 0x49);
  c = _mm256_blend_ps(_mm256_blend_ps(lo, mid, 0x49), hi, 0x92);
}
// Element i of a lands in slot 3 i mod 8 of vector 3 i / 8: every slot once, so one permutation per channel and blends do it.
FASTSR_INLINE void interleave3(V a, V b, V c, V& lo, V& mid, V& hi) {
  a = _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
  b = _mm256_permutevar8x32_ps(b, _mm256_setr_epi32(5, 0, 3, 6, 1, 4, 7, 2));
  c = _mm256_permutevar8x32_ps(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
  blends3(a, b, c, lo, mid, hi);
}
FASTSR_INLINE void deinterleave3(V lo, V mid, V hi, V& a, V& b, V& c) {
  blends3(lo, mid, hi, a, b, c);
  a = _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
  b = _mm256_permutevar8x32_ps(b, _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6));
  c = _mm256_permutevar8x32_ps(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
}
FASTSR_INLINE void store3(float* p, V a, V b, V c) {
  V lo, mid, hi;
  interleave3(a, b, c, lo, mid, hi);
  store(p, lo), store(p + W, mid), store(p + 2 * W, hi);
}
FASTSR_INLINE void load3(const float* p, V& a, V& b, V& c) { deinterleave3(load(p), load(p + W), load(p + 2 * W), a, b, c); }
// Six vectors <-> their elements 6 i .. 6 i + 5, with fewer steps than by threes and twos: each permutation puts even and odd ones into the two halves.
#define FASTSR_SIX 1
FASTSR_INLINE void deinterleave6(V (&v)[6]) {
  V x[2][3];
  FASTSR_UNROLL for (int i = 0; i < 2; i++) {
    blends3(v[3 * i], v[3 * i + 1], v[3 * i + 2], x[i][0], x[i][1], x[i][2]);
    x[i][0] = _mm256_permutevar8x32_ps(x[i][0], _mm256_setr_epi32(0, 6, 4, 2, 3, 1, 7, 5));
    x[i][1] = _mm256_permutevar8x32_ps(x[i][1], _mm256_setr_epi32(1, 7, 5, 3, 4, 2, 0, 6));
    x[i][2] = _mm256_permutevar8x32_ps(x[i][2], _mm256_setr_epi32(2, 0, 6, 4, 5, 3, 1, 7));
  }
  FASTSR_UNROLL for (int i = 0; i < 3; i++) {
    v[i] = _mm256_permute2f128_ps(x[0][i], x[1][i], 0x20);
    v[i + 3] = _mm256_permute2f128_ps(x[0][i], x[1][i], 0x31);
  }
}
FASTSR_INLINE void interleave6(V (&v)[6]) {
  V x[2][3];
  FASTSR_UNROLL for (int i = 0; i < 3; i++) {
    x[0][i] = _mm256_permute2f128_ps(v[i], v[i + 3], 0x20);
    x[1][i] = _mm256_permute2f128_ps(v[i], v[i + 3], 0x31);
  }
  FASTSR_UNROLL for (int i = 0; i < 2; i++) {
    const V a = _mm256_permutevar8x32_ps(x[i][0], _mm256_setr_epi32(0, 5, 3, 4, 2, 7, 1, 6));
    const V b = _mm256_permutevar8x32_ps(x[i][1], _mm256_setr_epi32(6, 0, 5, 3, 4, 2, 7, 1));
    const V c = _mm256_permutevar8x32_ps(x[i][2], _mm256_setr_epi32(1, 6, 0, 5, 3, 4, 2, 7));
    blends3(a, b, c, v[3 * i], v[3 * i + 1], v[3 * i + 2]);
  }
}

// a * b + c with one rounding in every instruction set, as fma is not in the scalar one.
FASTSR_INLINE V fused(V a, V b, V c) { return fma(a, b, c); }
// Towards zero; of numbers below 2^31.
FASTSR_INLINE V truncate(V a) { return _mm256_cvtepi32_ps(_mm256_cvttps_epi32(a)); }

// W bytes or W packed pixels b, g, r, b, g, r ... of bytes, and not a byte more. Stores truncate and saturate numbers between -2^15 and 2^15.
FASTSR_INLINE V load_bytes(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))); }
FASTSR_INLINE void store_bytes(uint8_t* p, V a) {
  const __m256i i = _mm256_cvttps_epi32(a);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
FASTSR_INLINE void load_pixels(const uint8_t* p, V& b, V& g, V& r) {  // four of them in each half
  const __m128i lo = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), hi = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8));
  const __m256i pixels = _mm256_inserti128_si256(_mm256_castsi128_si256(lo), hi, 1), next = _mm256_set1_epi32(1);
  constexpr int zero = static_cast<int>(0x80808000);  // of a byte's upper neighbours
  const __m256i blue = _mm256_setr_epi32(zero, zero + 3, zero + 6, zero + 9, zero + 4, zero + 7, zero + 10, zero + 13);
  const __m256i green = _mm256_add_epi32(blue, next);
  b = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, blue));
  g = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, green));
  r = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, _mm256_add_epi32(green, next)));
}
FASTSR_INLINE void store_pixels(uint8_t* p, V b, V g, V r) {
  const __m256i red = _mm256_cvttps_epi32(r), bg = _mm256_packs_epi32(_mm256_cvttps_epi32(b), _mm256_cvttps_epi32(g));
  const __m256i bytes = _mm256_packus_epi16(bg, _mm256_packs_epi32(red, red));  // in each half four b, four g, four r
  const __m256i pixels = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, -1, -1, -1, -1)));
  const __m256i dense = _mm256_permutevar8x32_epi32(pixels, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(dense));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p + 16), _mm256_extracti128_si256(dense, 1));
}

}  // namespace
}  // namespace avx2
}  // namespace fastsr
