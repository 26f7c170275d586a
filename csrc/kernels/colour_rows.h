// Bodies of the colour kernels (colour.h), included by each target unit. What 8-bit pictures need is written in vectors, the rest in plain loops for the
// compiler to vectorise. Not to be compiled with -ffast-math, nor with contraction (-ffp-contract=off): which operations are fused is written out.
//
// OpenCV's fixed-point arithmetic is done in floats: sums of whole numbers times coefficients over 2^14 that stay below 2^24 / 2^14 are exact.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include <cmath>
#include <cstddef>
#include <cstring>

#include "colour.h"
#include "shuffle.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {
namespace colour {

#if defined(_MSC_VER) && !defined(__clang__)
#define FASTSR_RESTRICT __restrict
#else
#define FASTSR_RESTRICT __restrict__
#endif

using FASTSR_TARGET::fused;
FASTSR_INLINE float fused(float a, float b, float c) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_fmaf(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

// x * k in 0..top; 0 for NaN.
FASTSR_INLINE V clipped(V x, V k, V top) { return min(max(mul(x, k), set1(0.0f)), top); }

// The whole number nearest to that, half to even. Adding 1.5 * 2^23 leaves no bits for a fraction.
FASTSR_INLINE V rounded(V x, V k, V top) {
  const V magic = set1(12582912.0f);
  return sub(add(clipped(x, k, top), magic), magic);
}

constexpr float kUnit = 1.0f / 16384;  // of the fixed-point coefficients

FASTSR_INLINE V luma(V b, V g, V r) {
  return truncate(fma(set1(4899 * kUnit), r, fma(set1(9617 * kUnit), g, fma(set1(1868 * kUnit), b, set1(0.5f)))));
}

// Whole vectors cover a row of n pixels: the last one overlaps its neighbour, rows shorter than a vector go through buffers.
FASTSR_INLINE int clip_vector(int i, int n) { return i + W <= n ? i : n - W; }

void feed_u8(float* FASTSR_RESTRICT x, const uint8_t* FASTSR_RESTRICT src, int n, float k, float m) {
  if (n < W) {
    for (int i = 0; i < n; i++) x[i] = static_cast<float>(src[i]) * k - m;
    return;
  }
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    store(x + at, sub(mul(load_bytes(src + at), set1(k)), set1(m)));
  }
}

void feed_bgr_u8(float* b, float* g, float* r, const uint8_t* bgr, int n, float k, float mb, float mg, float mr) {
  if (n < W) {
    uint8_t in[3 * W] = {};
    float out[3][W];
    std::memcpy(in, bgr, 3 * static_cast<size_t>(n));
    feed_bgr_u8(out[0], out[1], out[2], in, W, k, mb, mg, mr);
    float* const to[3] = {b, g, r};
    for (int c = 0; c < 3; c++) std::memcpy(to[c], out[c], sizeof(float) * static_cast<size_t>(n));
    return;
  }
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    V blue, green, red;
    load_pixels(bgr + 3 * at, blue, green, red);
    store(b + at, sub(mul(blue, set1(k)), set1(mb)));
    store(g + at, sub(mul(green, set1(k)), set1(mg)));
    store(r + at, sub(mul(red, set1(k)), set1(mr)));
  }
}

void feed_f32(float* FASTSR_RESTRICT x, int n, float k, float m) {
  for (int i = 0; i < n; i++) x[i] = x[i] * k - m;
}

FASTSR_INLINE V fine_luma(V b, V g, V r) { return fused(set1(0.114f), b, fused(set1(0.587f), g, mul(set1(0.299f), r))); }

template <bool FINE>
void y_of_u8(float* FASTSR_RESTRICT y, const uint8_t* FASTSR_RESTRICT bgr, int n, float k, float m) {
  if (n < W) {
    uint8_t in[3 * W] = {};
    float out[W];
    std::memcpy(in, bgr, 3 * static_cast<size_t>(n));
    y_of_u8<FINE>(out, in, W, k, m);
    std::memcpy(y, out, sizeof(float) * static_cast<size_t>(n));
    return;
  }
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    V b, g, r;
    load_pixels(bgr + 3 * at, b, g, r);
    store(y + at, sub(mul(FINE ? fine_luma(b, g, r) : luma(b, g, r), set1(k)), set1(m)));
  }
}

// (difference * coefficient / 2^14 + 128), rounded and saturated, over 255.
FASTSR_INLINE V chroma_value(V difference, float coefficient) {
  const V x = fma(set1(coefficient), difference, set1(128.5f));
  return mul(truncate(min(max(x, set1(0.0f)), set1(255.0f))), set1(static_cast<float>(1.0 / 255.0)));
}

void chroma_u8(float* FASTSR_RESTRICT cr, float* FASTSR_RESTRICT cb, const uint8_t* FASTSR_RESTRICT bgr, int n) {
  if (n < W) {
    uint8_t in[3 * W] = {};
    float out[2][W];
    std::memcpy(in, bgr, 3 * static_cast<size_t>(n));
    chroma_u8(out[0], out[1], in, W);
    std::memcpy(cr, out[0], sizeof(float) * static_cast<size_t>(n));
    std::memcpy(cb, out[1], sizeof(float) * static_cast<size_t>(n));
    return;
  }
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    V b, g, r;
    load_pixels(bgr + 3 * at, b, g, r);
    const V y = luma(b, g, r);
    store(cr + at, chroma_value(sub(r, y), 11682 * kUnit));
    store(cb + at, chroma_value(sub(b, y), 9241 * kUnit));
  }
}

FASTSR_INLINE float luma_f32(float b, float g, float r) { return fused(b, 0.114f, fused(g, 0.587f, r * 0.299f)); }

void y_f32(float* FASTSR_RESTRICT y, const float* FASTSR_RESTRICT b, const float* FASTSR_RESTRICT g, const float* FASTSR_RESTRICT r, int n) {
  for (int i = 0; i < n; i++) y[i] = luma_f32(b[i], g[i], r[i]);
}

void chroma_f32(float* FASTSR_RESTRICT cr, float* FASTSR_RESTRICT cb, const float* FASTSR_RESTRICT b, const float* FASTSR_RESTRICT g,
                const float* FASTSR_RESTRICT r, int n) {
  for (int i = 0; i < n; i++) {
    const float y = luma_f32(b[i], g[i], r[i]);
    cr[i] = fused(r[i] - y, 0.713f, 0.5f);
    cb[i] = fused(b[i] - y, 0.564f, 0.5f);
  }
}

FASTSR_INLINE float between(float a, float b, float f) { return fused(b - a, f, a); }
FASTSR_INLINE V between(V a, V b, V f) { return fused(sub(b, a), f, a); }

template <int S>
FASTSR_INLINE void enlarge_by(float* FASTSR_RESTRICT dst, const float* FASTSR_RESTRICT src, int n, const float* FASTSR_RESTRICT frac) {
  V f[S];
  FASTSR_UNROLL for (int j = 0; j < S; j++) f[j] = set1(frac[j]);
  for (int i = 0; i < n; i += W, dst += S * W) {
    const V a = load(src + i - 1), b = load(src + i), c = load(src + i + 1);
    V v[S];
    FASTSR_UNROLL for (int j = 0; j < S; j++) v[j] = j < S / 2 ? between(a, b, f[j]) : between(b, c, f[j]);
    if constexpr (S == 2) {
      interleave2(v[0], v[1], v[0], v[1]);
    } else if constexpr (S == 4) {
      interleave4(v);
    }
    if constexpr (S == 3) {
      store3(dst, v[0], v[1], v[2]);
    } else {
      FASTSR_UNROLL for (int j = 0; j < S; j++) store(dst + j * W, v[j]);
    }
  }
}

void enlarge(float* dst, const float* src, int n, int scale, const float* frac) {
  switch (scale) {
    case 1: return enlarge_by<1>(dst, src, n, frac);
    case 2: return enlarge_by<2>(dst, src, n, frac);
    case 3: return enlarge_by<3>(dst, src, n, frac);
    case 4: return enlarge_by<4>(dst, src, n, frac);
  }
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < scale; j++) {
      const float* s = src + i - (j < scale / 2 ? 1 : 0);
      dst[static_cast<ptrdiff_t>(i) * scale + j] = between(s[0], s[1], frac[j]);
    }
  }
}

void enlarge_at(float* FASTSR_RESTRICT dst, const float* FASTSR_RESTRICT src, const int32_t* FASTSR_RESTRICT index, const float* FASTSR_RESTRICT frac,
                int n) {
  for (int i = 0; i < n; i++) dst[i] = between(src[index[i]], src[index[i] + 1], frac[i]);
}

void blend(float* FASTSR_RESTRICT dst, const float* FASTSR_RESTRICT a, const float* FASTSR_RESTRICT b, float f, int n) {
  for (int i = 0; i < n; i++) dst[i] = between(a[i], b[i], f);
}

void store_u8(uint8_t* FASTSR_RESTRICT dst, const float* FASTSR_RESTRICT x, int n, float m, float k) {
  if (n < W) {
    float in[W] = {};
    uint8_t out[W];
    std::memcpy(in, x, sizeof(float) * static_cast<size_t>(n));
    store_u8(out, in, W, m, k);
    std::memcpy(dst, out, static_cast<size_t>(n));
    return;
  }
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    store_bytes(dst + at, rounded(add(load(x + at), set1(m)), set1(k), set1(255.0f)));
  }
}

void store_u16(uint16_t* FASTSR_RESTRICT dst, const float* FASTSR_RESTRICT x, int n, float m, float k) {
  for (int i = 0; i < n; i += W) {
    const int count = n - i < W ? n - i : W;
    float v[W] = {};
    std::memcpy(v, x + i, sizeof(float) * static_cast<size_t>(count));
    store(v, rounded(add(load(v), set1(m)), set1(k), set1(65535.0f)));
    for (int j = 0; j < count; j++) dst[i + j] = static_cast<uint16_t>(static_cast<int32_t>(v[j]));
  }
}

void store_bgr_u8(uint8_t* FASTSR_RESTRICT bgr, const float* b, const float* g, const float* r, int n, float mb, float mg, float mr, float k) {
  if (n < W) {
    float in[3][W] = {};
    uint8_t out[3 * W];
    const float* const from[3] = {b, g, r};
    for (int c = 0; c < 3; c++) std::memcpy(in[c], from[c], sizeof(float) * static_cast<size_t>(n));
    store_bgr_u8(out, in[0], in[1], in[2], W, mb, mg, mr, k);
    std::memcpy(bgr, out, 3 * static_cast<size_t>(n));
    return;
  }
  const V factor = set1(k), top = set1(255.0f);
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    const V blue = rounded(add(load(b + at), set1(mb)), factor, top), green = rounded(add(load(g + at), set1(mg)), factor, top);
    store_pixels(bgr + 3 * at, blue, green, rounded(add(load(r + at), set1(mr)), factor, top));
  }
}

// a * x + y, rounded once. Of whole numbers, as they are unless FINE, both ways are exact.
template <bool FINE>
FASTSR_INLINE V times_plus(float a, V x, V y) { return FINE ? fused(set1(a), x, y) : fma(set1(a), x, y); }

template <bool FINE>
void store_ycrcb(uint8_t* bgr, const float* y, const float* const cr[2], const float* const cb[2], float f, int n, float m, float k) {
  if (n < W) {
    float in[5][W] = {};
    uint8_t out[3 * W];
    const float* const from[5] = {y, cr[0], cr[1], cb[0], cb[1]};
    for (int j = 0; j < 5; j++) std::memcpy(in[j], from[j], sizeof(float) * static_cast<size_t>(n));
    const float *const red[2] = {in[1], in[2]}, *const blue[2] = {in[3], in[4]};
    store_ycrcb<FINE>(out, in[0], red, blue, f, W, m, k);
    std::memcpy(bgr, out, 3 * static_cast<size_t>(n));
    return;
  }
  const float *cr0 = cr[0], *cr1 = cr[1], *cb0 = cb[0], *cb1 = cb[1];
  const V fraction = set1(f), mean = set1(m), factor = set1(k), top = set1(255.0f);
  // To each sum 0.5, for rounding, and what makes chroma's middle 128 nought.
  const V to_b = set1(0.5f - 128 * 29049 * kUnit), to_g = set1(0.5f + 128 * (5636 + 11698) * kUnit), to_r = set1(0.5f - 128 * 22987 * kUnit);
  for (int i = 0; i < n; i += W) {
    const int at = clip_vector(i, n);
    const V sum = add(load(y + at), mean), l = FINE ? clipped(sum, factor, top) : rounded(sum, factor, top);
    const V u = rounded(between(load(cr0 + at), load(cr1 + at), fraction), top, top);
    const V v = rounded(between(load(cb0 + at), load(cb1 + at), fraction), top, top);
    const V b = times_plus<FINE>(29049 * kUnit, v, add(l, to_b));
    const V g = times_plus<FINE>(-5636 * kUnit, v, times_plus<FINE>(-11698 * kUnit, u, add(l, to_g)));
    store_pixels(bgr + 3 * at, b, g, times_plus<FINE>(22987 * kUnit, u, add(l, to_r)));
  }
}

void ycrcb_f32(float* FASTSR_RESTRICT b, float* FASTSR_RESTRICT g, float* FASTSR_RESTRICT r, const float* FASTSR_RESTRICT y,
               const float* FASTSR_RESTRICT cr, const float* FASTSR_RESTRICT cb, int n) {
  for (int i = 0; i < n; i++) {
    const float u = cr[i] - 0.5f, v = cb[i] - 0.5f;
    b[i] = fused(v, 1.773f, y[i]);
    g[i] = fused(u, -0.714f, fused(v, -0.344f, y[i]));
    r[i] = fused(u, 1.403f, y[i]);
  }
}

constexpr ColourKernels kTable = {FASTSR_TARGET_NAME, feed_u8, feed_bgr_u8, feed_f32, y_of_u8<false>, y_of_u8<true>, chroma_u8, y_f32, chroma_f32,
                                  enlarge, enlarge_at, blend, store_u8, store_u16, store_bgr_u8, store_ycrcb<false>, store_ycrcb<true>, ycrcb_f32};

#undef FASTSR_RESTRICT

}  // namespace colour
}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
