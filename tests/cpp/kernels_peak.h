// The processor's multiply-add rates per instruction set, the yardstick of kernels_test --bench and benchmarks/peaks.py: 12 independent chains in
// registers.
#pragma once
#include <chrono>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace peak {

inline double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// GFLOP/s of 12 times LANES multiply-adds a round; best of several short runs.
#define FASTSR_PEAK(V, SET1, FMA, LANES)                                                                   \
  double best = 0;                                                                                         \
  volatile float sink = 0, half = 0.5f;                                                                    \
  for (int run = 0; run < 8; run++) {                                                                      \
    const V m = SET1(half), a = SET1(half);                                                                \
    V c0 = SET1(half), c1 = SET1(half), c2 = SET1(half), c3 = SET1(half), c4 = SET1(half), c5 = SET1(half);  \
    V c6 = SET1(half), c7 = SET1(half), c8 = SET1(half), c9 = SET1(half), c10 = SET1(half), c11 = SET1(half);\
    const int rounds = 200000;                                                                             \
    const double start = seconds();                                                                        \
    for (int i = 0; i < rounds; i++) {                                                                     \
      c0 = FMA(c0, m, a), c1 = FMA(c1, m, a), c2 = FMA(c2, m, a), c3 = FMA(c3, m, a);                      \
      c4 = FMA(c4, m, a), c5 = FMA(c5, m, a), c6 = FMA(c6, m, a), c7 = FMA(c7, m, a);                      \
      c8 = FMA(c8, m, a), c9 = FMA(c9, m, a), c10 = FMA(c10, m, a), c11 = FMA(c11, m, a);                  \
    }                                                                                                      \
    const double rate = 12.0 * 2 * LANES * rounds / (seconds() - start) * 1e-9;                            \
    V s[12] = {c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11};                                          \
    for (V v : s) {                                                                                        \
      float f;                                                                                             \
      std::memcpy(&f, &v, 4);                                                                              \
      sink = sink + f;                                                                                     \
    }                                                                                                      \
    best = rate > best ? rate : best;                                                                      \
  }                                                                                                        \
  return best

#if defined(__x86_64__)
__attribute__((target("avx512f"))) inline double avx512() { FASTSR_PEAK(__m512, _mm512_set1_ps, _mm512_fmadd_ps, 16); }
__attribute__((target("avx2,fma"))) inline double avx2() { FASTSR_PEAK(__m256, _mm256_set1_ps, _mm256_fmadd_ps, 8); }
#elif defined(__aarch64__)
inline float32x4_t neon_fma(float32x4_t c, float32x4_t m, float32x4_t a) { return vfmaq_f32(a, c, m); }
inline double neon() { FASTSR_PEAK(float32x4_t, vdupq_n_f32, neon_fma, 4); }
#endif

// Sums of products of 16-bit pairs, by one instruction where the processor has one.
#if defined(__x86_64__)
__attribute__((target("avx512bw"))) inline __m512i set_int16x32(float v) { return _mm512_set1_epi16(static_cast<short>(v * 2)); }
__attribute__((target("avx2"))) inline __m256i set_int16x16(float v) { return _mm256_set1_epi16(static_cast<short>(v * 2)); }
__attribute__((target("avx512bw"), always_inline)) inline __m512i madd512(__m512i sum, __m512i m, __m512i a) { return _mm512_add_epi32(sum, _mm512_madd_epi16(m, a)); }
__attribute__((target("avx2"), always_inline)) inline __m256i madd256(__m256i sum, __m256i m, __m256i a) { return _mm256_add_epi32(sum, _mm256_madd_epi16(m, a)); }
__attribute__((target("avx512bw"))) inline double avx512_int16_plain() { FASTSR_PEAK(__m512i, set_int16x32, madd512, 32); }
__attribute__((target("avx512bw,avx512vnni"))) inline double avx512_int16_vnni() { FASTSR_PEAK(__m512i, set_int16x32, _mm512_dpwssd_epi32, 32); }
__attribute__((target("avx2"))) inline double avx2_int16() { FASTSR_PEAK(__m256i, set_int16x16, madd256, 16); }
// And of fours of bytes: with VNNI, or as two such sums of pairs.
__attribute__((target("avx512bw,avx512vnni"))) inline double avx512_int8_vnni() { FASTSR_PEAK(__m512i, set_int16x32, _mm512_dpbusd_epi32, 64); }
#if (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11) || (defined(__clang__) && __clang_major__ >= 12)
#define FASTSR_PEAK_AVX_VNNI
__attribute__((target("avx2,avxvnni"))) inline double avx2_int8_vnni() { FASTSR_PEAK(__m256i, set_int16x16, _mm256_dpbusd_avx_epi32, 32); }
#endif
#if (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10) || (defined(__clang__) && __clang_major__ >= 9)
#define FASTSR_PEAK_BF16
__attribute__((target("avx512bw,avx512bf16"))) inline __m512 dot_bf16(__m512 sum, __m512 m, __m512 a) {
  return _mm512_dpbf16_ps(sum, (__m512bh)m, (__m512bh)a);
}
__attribute__((target("avx512bw,avx512bf16"))) inline double avx512_bf16() { FASTSR_PEAK(__m512, _mm512_set1_ps, dot_bf16, 32); }
#endif
#elif defined(__aarch64__)
inline int32x4_t set_int32x4(float v) { return vdupq_n_s32(static_cast<int>(v * 0x20002)); }
inline int32x4_t mlal(int32x4_t sum, int32x4_t m, int32x4_t a) {
  return vmlal_s16(sum, vget_low_s16(vreinterpretq_s16_s32(m)), vget_low_s16(vreinterpretq_s16_s32(a)));
}
inline double neon_int16() { FASTSR_PEAK(int32x4_t, set_int32x4, mlal, 4); }
#endif
#undef FASTSR_PEAK

// GFLOP/s, 0 for a set without its own multiply-add.
inline double rate(const char* isa) {
#if defined(__x86_64__)
  if (!std::strcmp(isa, "avx512")) return avx512();
  if (!std::strcmp(isa, "avx2")) return avx2();
#elif defined(__aarch64__)
  if (!std::strcmp(isa, "neon")) return neon();
#endif
  (void)isa;
  return 0;
}

// Of multiply-adds of bytes for the way of a table of fast.h, 0 where that is not known.
inline double int8_rate(const char* isa, const char* dot) {
#if defined(__x86_64__)
  const bool vnni = !std::strcmp(dot, "vnni");
  if (!std::strcmp(isa, "avx512")) return vnni ? avx512_int8_vnni() : avx512_int16_plain();
#if defined(FASTSR_PEAK_AVX_VNNI)
  if (!std::strcmp(isa, "avx2") && vnni) return avx2_int8_vnni();
#endif
  if (!std::strcmp(isa, "avx2") && !vnni) return avx2_int16();
#elif defined(__aarch64__)
  if (!std::strcmp(isa, "neon")) return neon_int16();
#endif
  (void)isa, (void)dot;
  return 0;
}

}  // namespace peak
