// 8-bit integers for avx512_int16.h, in whose region this lies; the contract of the functions is in avx2_int8.h.
#pragma once
#include "avx512_int16.h"

namespace fastsr {
namespace avx512 {
namespace {

// 32 registers: sums, two vectors of each input, weights.
constexpr int kBytesChannels = 8;
constexpr int kBytesVectors[] = {0, 8, 6, 5, 4, 3, 3, 2, 2};

FASTSR_INLINE I nearest(V a) { return _mm512_cvtps_epi32(a); }
FASTSR_INLINE I set_ints(int32_t a) { return _mm512_set1_epi32(a); }
FASTSR_INLINE I up8(I a) { return _mm512_slli_epi32(a, 8); }
FASTSR_INLINE I byte_of(I a, int n) { return _mm512_and_si512(_mm512_srl_epi32(a, _mm_cvtsi32_si128(8 * n)), _mm512_set1_epi32(255)); }
FASTSR_INLINE Pairs even_bytes(I a) { return _mm512_and_si512(a, _mm512_set1_epi16(255)); }
FASTSR_INLINE Pairs odd_bytes(I a) { return _mm512_srli_epi16(a, 8); }

// Written out for the reasons that QuickDot is.
#define FASTSR_QUICK_BYTES 1
struct QuickBytes {
  static constexpr int kVectors[] = {0, 12, 10, 7, 6, 5, 4, 3, 3};
  static constexpr int kWeightBytes = 4;
  using In = I;
  FASTSR_INLINE In load(const uint32_t* p) { return _mm512_loadu_si512(p); }
  FASTSR_INLINE I weight(const void* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
  }
#if defined(__GNUC__) || defined(__clang__)
  FASTSR_INLINE I add(I sum, In a, I w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w));
    return sum;
  }
#else
  FASTSR_INLINE I add(I sum, In a, I w) { return _mm512_dpbusd_epi32(sum, a, w); }
#endif
};

}  // namespace
}  // namespace avx512
}  // namespace fastsr
