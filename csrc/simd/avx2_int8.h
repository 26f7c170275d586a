// 8-bit integers for avx2_int16.h, in whose region this lies.
//
// nearest(a): the nearest whole numbers, half to even, of magnitudes up to 2^22. set_ints(a): a in all elements. up8: a << 8. byte_of(a, n): byte n of each word. even_bytes, odd_bytes: bytes 0 and 2, and 1 and 3, of each word as pairs.
// kBytesChannels, kBytesVectors: the most channels of a block of conv8, and its vectors for each number of channels.
// QuickBytes, where FASTSR_QUICK_BYTES: kVectors; add(sum, a, w): sum[i] + the products of the bytes of a[i], from 0 to 255, with those of w, from -128 to
// 127, of which there are kWeightBytes together with those that a plain dot needs.
#pragma once
#include "avx2_int16.h"

namespace fastsr {
namespace avx2 {
namespace {

// 16 registers: sums, two vectors of each input, weights, products.
constexpr int kBytesChannels = 4;
constexpr int kBytesVectors[] = {0, 4, 3, 2, 2};

FASTSR_INLINE I nearest(V a) { return _mm256_cvtps_epi32(a); }
FASTSR_INLINE I set_ints(int32_t a) { return _mm256_set1_epi32(a); }
FASTSR_INLINE I up8(I a) { return _mm256_slli_epi32(a, 8); }
FASTSR_INLINE I byte_of(I a, int n) { return _mm256_and_si256(_mm256_srl_epi32(a, _mm_cvtsi32_si128(8 * n)), _mm256_set1_epi32(255)); }
FASTSR_INLINE Pairs even_bytes(I a) { return _mm256_and_si256(a, _mm256_set1_epi16(255)); }
FASTSR_INLINE Pairs odd_bytes(I a) { return _mm256_srli_epi16(a, 8); }

#if (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11) || (defined(__clang__) && __clang_major__ >= 12)
#define FASTSR_QUICK_BYTES 1
struct QuickBytes {
  static constexpr int kVectors[] = {0, 8, 5, 4, 3};
  static constexpr int kWeightBytes = 4;
  using In = I;
  FASTSR_INLINE In load(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  FASTSR_INLINE I weight(const void* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
  }
  FASTSR_INLINE I add(I sum, In a, I w) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w));
    return sum;
  }
};
#endif

}  // namespace
}  // namespace avx2
}  // namespace fastsr
