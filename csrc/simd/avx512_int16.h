// Half floats and 16-bit integers for avx512.h, in whose region this lies; the contract of the functions is in avx2_int16.h.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "avx512.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // false in gcc 12's own headers
#endif

namespace fastsr {
namespace avx512 {
namespace {

using I = __m512i;
using Pairs = __m512i;
using Pair = __m512i;

// 32 registers: 24 sums, 3 vectors of inputs, weights, products.
constexpr int kDotChannels = 8, kDotVectors = 3;
constexpr int kRowsChannels = 4;
constexpr int kConv16Vectors[] = {0, 12, 10, 7, 6, 5, 4, 3, 3, 2, 2}, kConv16RowsVectors[] = {0, 6, 5, 4, 3};

FASTSR_INLINE V load(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
FASTSR_INLINE void store(uint16_t* p, V a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
// Which of `from`'s elements make residue j and then residue j + 1 of groups of T, as indices of three vectors of `size` elements: those of the first two,
// and those of the third with a mask.
template <class E, int SIZE, int T>
struct ResidueIndex {
  E at[SIZE], third[SIZE];
  uint32_t mask;
  constexpr ResidueIndex(int j) : at{}, third{}, mask(0) {
    for (int i = 0; i < SIZE; i++) {
      const int from = i % (SIZE / 2) * T + j + i / (SIZE / 2);
      at[i] = static_cast<E>(from % (2 * SIZE));
      third[i] = static_cast<E>(from - 2 * SIZE);
      mask |= (from >= 2 * SIZE ? 1u : 0u) << i;
    }
  }
};
// The same of 64-bit elements, of which residue j alone is wanted.
template <int T>
struct WideIndex {
  int64_t at[8], third[8];
  uint8_t mask;
  constexpr WideIndex(int j) : at{}, third{}, mask(0) {
    for (int i = 0; i < 8; i++) {
      const int from = i * T + j;
      at[i] = from % 16;
      third[i] = from - 16;
      mask = static_cast<uint8_t>(mask | (from >= 16 ? 1 : 0) << i);
    }
  }
};

FASTSR_INLINE __m512i load_some(const uint16_t* p, int n) {
  return _mm512_maskz_loadu_epi16(n >= 32 ? ~0u : n > 0 ? (1u << n) - 1 : 0u, p);
}
template <class E>
FASTSR_INLINE __m512i load_some(const E* p, int n) {
  return _mm512_maskz_loadu_epi32(static_cast<__mmask16>(n >= 16 ? 0xffff : n > 0 ? (1 << n) - 1 : 0), p);
}

template <int T, class E>
struct Groups {
  __m512i part[T * sizeof(E) / 4];
};
template <int T, class E>
FASTSR_INLINE Groups<T, E> load_groups(const E* p, int n) {
  constexpr int kPart = 64 / sizeof(E);
  Groups<T, E> t;
  FASTSR_UNROLL for (int i = 0; i < T * W / kPart; i++) t.part[i] = load_some(p + i * kPart, n - i * kPart);
  return t;
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint16_t>& t, V& a, V& b) {
  static_assert(T == 4 || T == 6, "");
  alignas(64) static constexpr ResidueIndex<int16_t, 32, T> kIndex(J);
  __m512i both = _mm512_permutex2var_epi16(t.part[0], _mm512_load_si512(kIndex.at), t.part[1]);
  if constexpr (T == 6) both = _mm512_mask_permutexvar_epi16(both, kIndex.mask, _mm512_load_si512(kIndex.third), t.part[2]);
  a = _mm512_cvtph_ps(_mm512_castsi512_si256(both));
  b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1));
}
template <int J, int T, class E>
FASTSR_INLINE __m512i wide_residue(const Groups<T, E>& t, int half) {  // of 8 groups
  alignas(64) static constexpr WideIndex<T / 2> kIndex(J / 2);
  const __m512i* const part = t.part + half * (T / 2);
  const __m512i both = _mm512_permutex2var_epi64(part[0], _mm512_load_si512(kIndex.at), part[1]);
  if constexpr (T == 4) return both;
  else return _mm512_mask_permutexvar_epi64(both, kIndex.mask, _mm512_load_si512(kIndex.third), part[2]);
}
template <int J, int T, class E>
FASTSR_INLINE void wide_residues(const Groups<T, E>& t, V& a, V& b) {
  deinterleave2(_mm512_castsi512_ps(wide_residue<J>(t, 0)), _mm512_castsi512_ps(wide_residue<J>(t, 1)), a, b);
}
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, float>& t, V& a, V& b) { wide_residues<J>(t, a, b); }
template <int J, int T>
FASTSR_INLINE void residues(const Groups<T, uint32_t>& t, I& a, I& b) {
  V x, y;
  wide_residues<J>(t, x, y);
  a = _mm512_castps_si512(x);
  b = _mm512_castps_si512(y);
}

// Of W / 2 groups of T elements elements 2 i in the lower half of c[i] and 2 i + 1 in the upper one. The first n elements may be read.
#define FASTSR_HALF_TILES 1
template <int T>
struct HalfIndex {
  int16_t at[2][32];
  constexpr HalfIndex() : at{} {
    for (int i = 0; i < 64; i++) at[i / 32][i % 32] = static_cast<int16_t>((i % 8 * T + i / 8) % 64);
  }
};
template <int T>
FASTSR_INLINE void half_tiles(const uint16_t* p, int n, V (&c)[T / 2]) {
  alignas(64) static constexpr HalfIndex<T> kIndex;
  const __m512i v0 = load_some(p, n), v1 = T == 4 ? v0 : load_some(p + 32, n - 32);
  const __m512i first = _mm512_permutex2var_epi16(v0, _mm512_load_si512(kIndex.at[0]), v1);
  c[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(first));
  c[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(first, 1));
  if constexpr (T == 6) c[2] = _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutex2var_epi16(v0, _mm512_load_si512(kIndex.at[1]), v1)));
}
FASTSR_INLINE void store_halves(V a, float* lower, float* upper) {
  _mm256_storeu_ps(lower, _mm512_castps512_ps256(a));
  _mm256_storeu_ps(upper, _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1)));
}

FASTSR_INLINE V load_two(const float* p) {
  return _mm512_castsi512_ps(_mm512_zextsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
FASTSR_INLINE V load_two(const uint16_t* p) {
  int32_t both;
  std::memcpy(&both, p, 4);
  return _mm512_cvtph_ps(_mm256_zextsi128_si256(_mm_cvtsi32_si128(both)));
}
FASTSR_INLINE I load_two(const uint32_t* p) { return _mm512_zextsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
FASTSR_INLINE void store_two(V a, float* p, float* q) {
  const __m128 low = _mm512_castps512_ps128(a);
  _mm_store_ss(p, low);
  _mm_store_ss(q, _mm_movehdup_ps(low));
}

FASTSR_INLINE __m512d zip64(V a, V b, V c, __m512i ab, __mmask8 of_c, __m512i at_c) {
  const __m512d two = _mm512_permutex2var_pd(_mm512_castps_pd(a), ab, _mm512_castps_pd(b));
  return _mm512_mask_permutexvar_pd(two, of_c, at_c, _mm512_castps_pd(c));
}
FASTSR_INLINE void untile(V (&y)[4]) { interleave4(y); }
FASTSR_INLINE void untile(V (&y)[6]) {
  const __m512i ab0 = _mm512_setr_epi64(0, 8, 0, 1, 9, 0, 2, 10), c0 = _mm512_setr_epi64(0, 0, 0, 0, 0, 1, 0, 0);
  const __m512i ab1 = _mm512_setr_epi64(0, 3, 11, 0, 4, 12, 0, 5), c1 = _mm512_setr_epi64(2, 0, 0, 3, 0, 0, 4, 0);
  const __m512i ab2 = _mm512_setr_epi64(13, 0, 6, 14, 0, 7, 15, 0), c2 = _mm512_setr_epi64(0, 5, 0, 0, 6, 0, 0, 7);
  V a[2], b[2], c[2];
  interleave2(y[0], y[1], a[0], a[1]);
  interleave2(y[2], y[3], b[0], b[1]);
  interleave2(y[4], y[5], c[0], c[1]);
  FASTSR_UNROLL for (int i = 0; i < 2; i++) {
    y[3 * i] = _mm512_castpd_ps(zip64(a[i], b[i], c[i], ab0, 0x24, c0));
    y[3 * i + 1] = _mm512_castpd_ps(zip64(a[i], b[i], c[i], ab1, 0x49, c1));
    y[3 * i + 2] = _mm512_castpd_ps(zip64(a[i], b[i], c[i], ab2, 0x92, c2));
  }
}

// untile of numbers within the half floats' range, as half floats: one permutation instead of several of floats.
#define FASTSR_STORE_TILES 1
FASTSR_INLINE __m512i two_halves(V a, V b) {
  const __m256i lo = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT), hi = _mm512_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT);
  return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}
template <int T>
struct TileOrder {
  int16_t at[T / 2][32], third[T / 2][32];
  uint32_t mask[T / 2];
  constexpr TileOrder() : at{}, third{}, mask{} {
    for (int v = 0; v < T / 2; v++)
      for (int i = 0; i < 32; i++) {
        const int pixel = 32 * v + i, from = pixel % T * 16 + pixel / T;  // among the residues, 16 halves each
        at[v][i] = static_cast<int16_t>(from % 64);
        third[v][i] = static_cast<int16_t>(from - 64);
        mask[v] |= (from >= 64 ? 1u : 0u) << i;
      }
  }
};
template <int T>
FASTSR_INLINE void store_tiles(uint16_t* p, const V (&y)[T]) {
  alignas(64) static constexpr TileOrder<T> kOrder;
  __m512i halves[T / 2];
  FASTSR_UNROLL for (int i = 0; i < T / 2; i++) halves[i] = two_halves(y[2 * i], y[2 * i + 1]);
  FASTSR_UNROLL for (int i = 0; i < T / 2; i++) {
    __m512i out = _mm512_permutex2var_epi16(halves[0], _mm512_load_si512(kOrder.at[i]), halves[1]);
    if constexpr (T == 6) out = _mm512_mask_permutexvar_epi16(out, kOrder.mask[i], _mm512_load_si512(kOrder.third[i]), halves[2]);
    _mm512_storeu_si512(p + 32 * i, out);
  }
}

FASTSR_INLINE I whole(V a, V most) { return _mm512_cvtps_epi32(_mm512_range_ps(a, most, 2)); }  // the smaller magnitude, a's sign
FASTSR_INLINE void store_pairs(int16_t* p, Pairs a) { _mm512_storeu_si512(p, a); }
FASTSR_INLINE Pairs load_pairs(const int16_t* p) { return _mm512_loadu_si512(p); }
FASTSR_INLINE Pair load_pair(const int16_t* p) {
  int32_t both;
  std::memcpy(&both, p, 4);
  return _mm512_set1_epi32(both);
}

FASTSR_INLINE I zero() { return _mm512_setzero_si512(); }
FASTSR_INLINE void store_sums(int32_t* p, I a) { _mm512_storeu_si512(p, a); }
FASTSR_INLINE V load_sums(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }

FASTSR_INLINE I add(I a, I b) { return _mm512_add_epi32(a, b); }
FASTSR_INLINE I sub(I a, I b) { return _mm512_sub_epi32(a, b); }
FASTSR_INLINE I add_halves(I a, I b) { return _mm512_add_epi16(a, b); }
FASTSR_INLINE I sub_halves(I a, I b) { return _mm512_sub_epi16(a, b); }
FASTSR_INLINE V to_float(I a) { return _mm512_cvtepi32_ps(a); }
FASTSR_INLINE Pairs load_words(const uint32_t* p) { return _mm512_loadu_si512(p); }
FASTSR_INLINE I load_ints(const uint32_t* p) { return _mm512_loadu_si512(p); }
FASTSR_INLINE V as_floats(I a) { return _mm512_castsi512_ps(a); }
FASTSR_INLINE I as_ints(V a) { return _mm512_castps_si512(a); }
FASTSR_INLINE V low_half(I a) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(a, 16), 16)); }
FASTSR_INLINE V high_half(I a) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(a, 16)); }
FASTSR_INLINE I words(I lo, I hi) { return _mm512_mask_blend_epi16(0xaaaaaaaau, lo, _mm512_slli_epi32(hi, 16)); }
FASTSR_INLINE Pairs pairs(I lo, I hi) { return words(lo, hi); }
FASTSR_INLINE void store_words(uint32_t* p, I a) { _mm512_storeu_si512(p, a); }

struct PlainDot {
  static constexpr auto& kVectors = kConv16Vectors;
  static constexpr auto& kRowsVectors = kConv16RowsVectors;
  static constexpr const char* kName = "madd";
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, w)); }
};
// Written out: the region lacks VNNI, and gcc 12 copies sums to and fro around the intrinsic.
struct QuickDot {
  static constexpr auto& kVectors = kConv16Vectors;
  static constexpr auto& kRowsVectors = kConv16RowsVectors;
  static constexpr const char* kName = "vnni";
#if defined(__GNUC__) || defined(__clang__)
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w));
    return sum;
  }
#else
  FASTSR_INLINE I add(I sum, Pairs a, Pair w) { return _mm512_dpwssd_epi32(sum, a, w); }
#endif
};

}  // namespace
}  // namespace avx512
}  // namespace fastsr
