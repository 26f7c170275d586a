// Half floats and 16-bit integers for avx2.h, whose region this closes; it opens another one with F16C, which every processor with AVX2 has so far.
//
// load, store of uint16_t: W half floats, rounded to the nearest, half to even.
// load_groups<T>(p, n): W groups of T elements, T is 4 or 6, the first n of which count; a set without wide permutations reads T * W of them, when residues
// is called. residues<J>(groups, a, b): of each group elements J and J + 1, an even J. load_two: the first two elements, then zeros. store_two(a, p, q): a's first element to p, the second one to q.
// untile: from the T elements of W groups, one vector each, the groups one after the other.
// whole(a, most): the nearest whole numbers, half to even, of a cut off to -most..most; either end for NaN.
// pairs(lo, hi): the pairs (lo[i], hi[i]) of numbers within 16 bits. How they lie in a register and, by store_pairs and load_pairs, in memory is the
// set's own affair. Dot::add(sum, a, w): sum[i] + a[i].first * w.first + a[i].second * w.second.
// Dot::kVectors, kRowsVectors: of a block of conv16 and of conv16_rows, for each number of channels.
// load_words(p): pairs that lie one after the other, the first in the lower half of a word. load_ints: W words as integers. low_half, high_half: a word's
// signed halves. words(lo, hi): lo's lower halves below hi's.
// as_floats, as_ints: the same bits. kDotChannels is even.
// add_halves, sub_halves: of 16-bit integers.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "avx2.h"

#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "tiles.h"

namespace fastsr {
namespace avx2 {
namespace {

using I = __m256i;
using Pairs = __m256i;
using Pair = __m256i;

// 16 registers: 12 sums, 2 vectors of inputs, weights, products.
constexpr int kDotChannels = 6, kDotVectors = 2;
constexpr int kRowsChannels = 2;  // most channels of a block of conv16_rows, an even number

FASTSR_INLINE V load(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
FASTSR_INLINE void store(uint16_t* p, V a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint16_t>& t, V& a, V& b) {
  const auto two = [&t](int group) {
    int32_t both;
    std::memcpy(&both, t.p + T * group + J, 4);
    return both;
  };
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  const __m128i lo = _mm_shuffle_epi8(_mm_setr_epi32(two(0), two(1), two(2), two(3)), order);
  const __m128i hi = _mm_shuffle_epi8(_mm_setr_epi32(two(4), two(5), two(6), two(7)), order);
  a = _mm256_cvtph_ps(_mm_unpacklo_epi64(lo, hi));
  b = _mm256_cvtph_ps(_mm_unpackhi_epi64(lo, hi));
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, float>& t, V& a, V& b) {
  const auto four = [&t](int group) {
    const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(t.p + T * group + J)));
    return _mm_loadh_pi(two, reinterpret_cast<const __m64*>(t.p + T * (group + 1) + J));
  };
  const V x = _mm256_set_m128(four(4), four(0)), y = _mm256_set_m128(four(6), four(2));
  a = _mm256_shuffle_ps(x, y, 0x88);
  b = _mm256_shuffle_ps(x, y, 0xdd);
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint32_t>& t, I& a, I& b) {
  V x, y;
  residues<J>(Groups<T, float>{reinterpret_cast<const float*>(t.p)}, x, y);
  a = _mm256_castps_si256(x);
  b = _mm256_castps_si256(y);
}

FASTSR_INLINE V load_two(const float* p) {
  return _mm256_castsi256_ps(_mm256_zextsi128_si256(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
FASTSR_INLINE V load_two(const uint16_t* p) {
  int32_t both;
  std::memcpy(&both, p, 4);
  return _mm256_cvtph_ps(_mm_cvtsi32_si128(both));
}
FASTSR_INLINE I load_two(const uint32_t* p) { return _mm256_zextsi128_si256(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
FASTSR_INLINE void store_two(V a, float* p, float* q) {
  const __m128 low = _mm256_castps256_ps128(a);
  _mm_store_ss(p, low);
  _mm_store_ss(q, _mm_movehdup_ps(low));
}

FASTSR_INLINE void untile(V (&y)[4]) { interleave4(y); }
FASTSR_INLINE void untile(V (&y)[6]) {
  __m256d q[6];
  FASTSR_UNROLL for (int i = 0; i < 6; i += 2) {
    V lo, hi;
    interleave2(y[i], y[i + 1], lo, hi);
    q[i / 2] = _mm256_castps_pd(lo);
    q[3 + i / 2] = _mm256_castps_pd(hi);
  }
  FASTSR_UNROLL for (int i = 0; i < 6; i += 3) {
    const __m256d ab = _mm256_unpacklo_pd(q[i], q[i + 1]), ca = _mm256_shuffle_pd(q[i + 2], q[i], 10), bc = _mm256_unpackhi_pd(q[i + 1], q[i + 2]);
    y[i] = _mm256_castpd_ps(_mm256_permute2f128_pd(ab, ca, 0x20));
    y[i + 1] = _mm256_castpd_ps(_mm256_permute2f128_pd(bc, ab, 0x30));
    y[i + 2] = _mm256_castpd_ps(_mm256_permute2f128_pd(ca, bc, 0x31));
  }
}

FASTSR_INLINE I whole(V a, V most) { return _mm256_cvtps_epi32(min(max(a, neg(most)), most)); }
FASTSR_INLINE void store_pairs(int16_t* p, Pairs a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
FASTSR_INLINE Pairs load_pairs(const int16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
FASTSR_INLINE Pair load_pair(const int16_t* p) {
  int32_t both;
  std::memcpy(&both, p, 4);
  return _mm256_set1_epi32(both);
}

FASTSR_INLINE I zero() { return _mm256_setzero_si256(); }
FASTSR_INLINE void store_sums(int32_t* p, I a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
FASTSR_INLINE V load_sums(const int32_t* p) { return _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }

FASTSR_INLINE I add(I a, I b) { return _mm256_add_epi32(a, b); }
FASTSR_INLINE I sub(I a, I b) { return _mm256_sub_epi32(a, b); }
FASTSR_INLINE I add_halves(I a, I b) { return _mm256_add_epi16(a, b); }
FASTSR_INLINE I sub_halves(I a, I b) { return _mm256_sub_epi16(a, b); }
FASTSR_INLINE V to_float(I a) { return _mm256_cvtepi32_ps(a); }
FASTSR_INLINE Pairs load_words(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
FASTSR_INLINE I load_ints(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
FASTSR_INLINE V as_floats(I a) { return _mm256_castsi256_ps(a); }
FASTSR_INLINE I as_ints(V a) { return _mm256_castps_si256(a); }
FASTSR_INLINE V low_half(I a) { return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(a, 16), 16)); }
FASTSR_INLINE V high_half(I a) { return _mm256_cvtepi32_ps(_mm256_srai_epi32(a, 16)); }
FASTSR_INLINE I words(I lo, I hi) { return _mm256_blend_epi16(lo, _mm256_slli_epi32(hi, 16), 0xaa); }
FASTSR_INLINE Pairs pairs(I lo, I hi) { return words(lo, hi); }
FASTSR_INLINE void store_words(uint32_t* p, I a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }

struct PlainDot {
  static constexpr int kVectors[] = {0, 8, 4, 3, 2, 2, 2, 1, 1, 1, 1}, kRowsVectors[] = {0, 4, 3};
  static constexpr const char* kName = "madd";
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, w)); }
};
#if (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11) || (defined(__clang__) && __clang_major__ >= 12)
struct QuickDot {
  static constexpr int kVectors[] = {0, 8, 5, 3, 3, 2, 2, 1, 1, 1, 1}, kRowsVectors[] = {0, 4, 3};
  static constexpr const char* kName = "vnni";
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) {
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w));
    return sum;
  }
};
#else
using QuickDot = PlainDot;
#endif

}  // namespace
}  // namespace avx2
}  // namespace fastsr
