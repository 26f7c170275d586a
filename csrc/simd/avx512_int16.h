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
FASTSR_INLINE V load_two(const float* p) {
  return _mm512_castsi512_ps(_mm512_zextsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
FASTSR_INLINE V load_two(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_zextsi128_si256(_mm_cvtsi32_si128(static_cast<int>(p[0] | static_cast<uint32_t>(p[1]) << 16))));
}

FASTSR_INLINE V set2(const float* p) {
  double both;
  std::memcpy(&both, p, 8);
  return _mm512_castpd_ps(_mm512_set1_pd(both));
}

FASTSR_INLINE V zip32_lo(V a, V b) { return _mm512_unpacklo_ps(a, b); }
FASTSR_INLINE V zip32_hi(V a, V b) { return _mm512_unpackhi_ps(a, b); }
FASTSR_INLINE V zip64_lo(V a, V b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
FASTSR_INLINE V zip64_hi(V a, V b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
FASTSR_INLINE V next_lane(V a, V b) { return shift<4>(a, b); }

// The half floats of four vectors, y[0] of the first element's lane, y[1] of the second's and so on, lane elements as pairs() leaves them: one permutation
// instead of eight of floats. The integers order as the half floats do, apart from their sign.
#define FASTSR_STORE_TILES 1
struct TileOrder {
  int16_t at[64];
  constexpr TileOrder() : at{} {
    for (int tile = 0; tile < 16; tile++)
      for (int j = 0; j < 4; j++) at[4 * tile + j] = static_cast<int16_t>(32 * (j / 2) + 16 * (j % 2) + tile % 4 * 4 + tile / 4);
  }
};
FASTSR_INLINE __m512i two_halves(V a, V b) {
  const __m256i lo = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT), hi = _mm512_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT);
  return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}
FASTSR_INLINE void store_tiles(uint16_t* p, const V (&y)[4], bool relu) {
  const __m512i most = _mm512_set1_epi16(0x7bff), sign = _mm512_set1_epi16(static_cast<int16_t>(0x8000));
  __m512i lo = two_halves(y[0], y[1]), hi = two_halves(y[2], y[3]);
  if (relu) {
    lo = _mm512_min_epi16(_mm512_max_epi16(lo, _mm512_setzero_si512()), most);
    hi = _mm512_min_epi16(_mm512_max_epi16(hi, _mm512_setzero_si512()), most);
  } else {
    lo = _mm512_or_si512(_mm512_and_si512(sign, lo), _mm512_min_epi16(_mm512_andnot_si512(sign, lo), most));
    hi = _mm512_or_si512(_mm512_and_si512(sign, hi), _mm512_min_epi16(_mm512_andnot_si512(sign, hi), most));
  }
  // Tile t is element t % 16 / 4 of lane t % 4 in each of lo's and hi's two.
  alignas(64) static constexpr TileOrder kOrder;
  _mm512_storeu_si512(p, _mm512_permutex2var_epi16(lo, _mm512_load_si512(kOrder.at), hi));
  _mm512_storeu_si512(p + 32, _mm512_permutex2var_epi16(lo, _mm512_load_si512(kOrder.at + 32), hi));
}

FASTSR_INLINE I whole(V a, V most) { return _mm512_cvtps_epi32(_mm512_range_ps(a, most, 2)); }  // the smaller magnitude, a's sign
FASTSR_INLINE Pairs pairs(I a, I b) { return _mm512_packs_epi32(a, b); }
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
FASTSR_INLINE I load_two_ints(const uint32_t* p) { return _mm512_zextsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
FASTSR_INLINE V low_half(I a) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(a, 16), 16)); }
FASTSR_INLINE V high_half(I a) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(a, 16)); }
FASTSR_INLINE I words(I lo, I hi) { return _mm512_mask_blend_epi16(0xaaaaaaaau, lo, _mm512_slli_epi32(hi, 16)); }
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
