// Sixteen floats: AVX-512 F, DQ, BW, VL. Opens a target region like avx2.h; the contract of the functions is there too.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "macros.h"

#define FASTSR_TARGET avx512
#define FASTSR_TARGET_NAME "avx512"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false in gcc 12's own headers
#pragma GCC diagnostic ignored "-Wuninitialized"        // as well
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif

namespace fastsr {
namespace avx512 {
namespace {

constexpr int W = 16;
using V = __m512;
using M = __mmask16;

// conv: most channels of a register block, the number that blocks have when it divides the channels, and vectors of a block for each channel count.
// 32 registers.
constexpr int kConvChannels = 8, kConvPreferred = 8;
constexpr int kConvVectors[] = {0, 12, 10, 7, 6, 5, 4, 3, 3};
// winograd_few: output channels and vectors of a register block.
constexpr int kFewChannels = 8, kFewVectors = 2;

FASTSR_INLINE V load(const float* p) { return _mm512_loadu_ps(p); }
FASTSR_INLINE V load_once(const float* p) { V a = load(p); FASTSR_OPAQUE("v", a); return a; }  // not again at each use
FASTSR_INLINE void store(float* p, V a) { _mm512_storeu_ps(p, a); }
FASTSR_INLINE V set1(float a) { return _mm512_set1_ps(a); }
FASTSR_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
FASTSR_INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
FASTSR_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
FASTSR_INLINE V div(V a, V b) { return _mm512_div_ps(a, b); }
FASTSR_INLINE V sqrt(V a) { return _mm512_sqrt_ps(a); }
FASTSR_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
FASTSR_INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
FASTSR_INLINE V min(V a, V b) { return _mm512_min_ps(a, b); }
FASTSR_INLINE M lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FASTSR_INLINE M isnan(V a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
FASTSR_INLINE V select(M m, V a, V b) { return _mm512_mask_blend_ps(m, b, a); }
FASTSR_INLINE V sign_bit() { return _mm512_set1_ps(-0.0f); }
FASTSR_INLINE V abs(V a) { return _mm512_andnot_ps(sign_bit(), a); }
FASTSR_INLINE V neg(V a) { return _mm512_xor_ps(sign_bit(), a); }
FASTSR_INLINE V copysign(V mag, V sign) { return _mm512_or_ps(_mm512_andnot_ps(sign_bit(), mag), _mm512_and_ps(sign_bit(), sign)); }
FASTSR_INLINE V shl23(V a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23)); }

// Elements N .. N + W - 1 of lo followed by hi. Cheaper than a load that straddles two cache lines, which conv uses; not so in the other sets.
#define FASTSR_SHIFT 1
template <int N>
FASTSR_INLINE V shift(V lo, V hi) { return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(hi), _mm512_castps_si512(lo), N)); }

FASTSR_INLINE V lookup(const float* p, const int32_t* index) {
  const __m512i all = _mm512_loadu_si512(index), i = _mm512_sub_epi32(all, _mm512_set1_epi32(index[0]));
  if (_mm512_test_epi32_mask(i, _mm512_set1_epi32(~31))) return _mm512_i32gather_ps(all, p, 4);
  return _mm512_permutex2var_ps(load(p + index[0]), i, load(p + index[0] + W));
}

FASTSR_INLINE void interleave2(V a, V b, V& lo, V& hi) {
  lo = _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
  hi = _mm512_permutex2var_ps(a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b);
}
FASTSR_INLINE void deinterleave2(V lo, V hi, V& a, V& b) {
  a = _mm512_permutex2var_ps(lo, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), hi);
  b = _mm512_permutex2var_ps(lo, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), hi);
}
// Four vectors <-> their elements 4 i, 4 i + 1, 4 i + 2, 4 i + 3.
FASTSR_INLINE void deinterleave4(V (&v)[4]) {
  V a, b, c, d;
  deinterleave2(v[0], v[1], a, b);
  deinterleave2(v[2], v[3], c, d);
  deinterleave2(a, c, v[0], v[2]);
  deinterleave2(b, d, v[1], v[3]);
}
FASTSR_INLINE void interleave4(V (&v)[4]) {
  V a, b, c, d;
  interleave2(v[0], v[2], a, b);
  interleave2(v[1], v[3], c, d);
  interleave2(a, c, v[0], v[1]);
  interleave2(b, d, v[2], v[3]);
}
// Elements 1 .. W - 1 of a, then next.
FASTSR_INLINE V push(V a, float next) { return shift<1>(a, set1(next)); }
FASTSR_INLINE V blend3(V a, V b, V c, M mb, M mc) { return _mm512_mask_blend_ps(mc, _mm512_mask_blend_ps(mb, a, b), c); }
FASTSR_INLINE void interleave3(V a, V b, V c, V& lo, V& mid, V& hi) {
  a = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5), a);
  b = _mm512_permutexvar_ps(_mm512_setr_epi32(5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10), b);
  c = _mm512_permutexvar_ps(_mm512_setr_epi32(10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15), c);
  lo = blend3(a, b, c, 0x2492, 0x4924);
  mid = blend3(a, b, c, 0x9249, 0x2492);
  hi = blend3(a, b, c, 0x4924, 0x9249);
}
FASTSR_INLINE void deinterleave3(V p0, V p1, V p2, V& a, V& b, V& c) {
  a = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13), blend3(p0, p1, p2, 0x4924, 0x2492));
  b = _mm512_permutexvar_ps(_mm512_setr_epi32(1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14), blend3(p0, p1, p2, 0x9249, 0x4924));
  c = _mm512_permutexvar_ps(_mm512_setr_epi32(2, 5, 8, 11, 14, 1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15), blend3(p0, p1, p2, 0x2492, 0x9249));
}
FASTSR_INLINE void store3(float* p, V a, V b, V c) {
  V lo, mid, hi;
  interleave3(a, b, c, lo, mid, hi);
  store(p, lo), store(p + W, mid), store(p + 2 * W, hi);
}
FASTSR_INLINE void load3(const float* p, V& a, V& b, V& c) { deinterleave3(load(p), load(p + W), load(p + 2 * W), a, b, c); }

FASTSR_INLINE V fused(V a, V b, V c) { return fma(a, b, c); }
FASTSR_INLINE V truncate(V a) { return _mm512_cvtepi32_ps(_mm512_cvttps_epi32(a)); }

FASTSR_INLINE V load_bytes(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))); }
FASTSR_INLINE void store_bytes(uint8_t* p, V a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_cvttps_epi32(a), _mm512_setzero_si512())));
}
FASTSR_INLINE void load_pixels(const uint8_t* p, V& b, V& g, V& r) {  // four of them in each quarter
  const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  const __m512i dense = _mm512_inserti32x4(low, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 32)), 2);
  const __m512i pixels = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 9, 10, 11, 0), dense);
  constexpr int zero = static_cast<int>(0x80808000);  // of a byte's upper neighbours
  b = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(pixels, _mm512_set4_epi32(zero + 9, zero + 6, zero + 3, zero)));
  g = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(pixels, _mm512_set4_epi32(zero + 10, zero + 7, zero + 4, zero + 1)));
  r = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(pixels, _mm512_set4_epi32(zero + 11, zero + 8, zero + 5, zero + 2)));
}
FASTSR_INLINE void store_pixels(uint8_t* p, V b, V g, V r) {
  const __m512i red = _mm512_cvttps_epi32(r), bg = _mm512_packs_epi32(_mm512_cvttps_epi32(b), _mm512_cvttps_epi32(g));
  const __m512i bytes = _mm512_packus_epi16(bg, _mm512_packs_epi32(red, red));
  const __m512i pixels = _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, -1, -1, -1, -1)));
  const __m512i dense = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15), pixels);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(dense));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 32), _mm512_extracti32x4_epi32(dense, 2));
}

}  // namespace
}  // namespace avx512
}  // namespace fastsr
