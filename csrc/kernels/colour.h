// The colour kernels, as a table of function pointers per instruction set: what stands between a picture's rows and a network's rows.
//
// fastsr/image.py defines the arithmetic; every instruction set gives the same bits, "fma" being one multiplication and addition with one rounding.
// Packed pixels are b, g, r, b, g, r ...; planes are n floats. Nothing is read or written beyond n, but for enlarge. Destinations must not overlap sources.
#pragma once
#include <cstdint>

namespace fastsr {

struct ColourKernels {
  const char* isa;  // as Kernels::isa

  // x[i] = src[i] * k - m
  void (*feed_u8)(float* x, const uint8_t* src, int n, float k, float m);
  // The same for the channels of packed pixels
  void (*feed_bgr_u8)(float* b, float* g, float* r, const uint8_t* bgr, int n, float k, float mb, float mg, float mr);
  // x[i] = x[i] * k - m
  void (*feed_f32)(float* x, int n, float k, float m);
  // y[i] = Y * k - m, with Y the fixed-point luma of packed pixels
  void (*y_u8)(float* y, const uint8_t* bgr, int n, float k, float m);
  // The same with Y in floats, not rounded
  void (*fine_y_u8)(float* y, const uint8_t* bgr, int n, float k, float m);
  // Fixed-point Cr and Cb of packed pixels, divided by 255
  void (*chroma_u8)(float* cr, float* cb, const uint8_t* bgr, int n);
  void (*y_f32)(float* y, const float* b, const float* g, const float* r, int n);
  void (*chroma_f32)(float* cr, float* cb, const float* b, const float* g, const float* r, int n);

  // Bilinear enlargement of a row by a whole factor: dst[i * scale + j] = fma(s[1] - s[0], frac[j], s[0]), with s = src + i - 1 for j < scale / 2
  // and src + i for the others; i < n. src[-1] and src[n] must exist. Reads and writes beyond them as the kernels of kernels.h.
  void (*enlarge)(float* dst, const float* src, int n, int scale, const float* frac);
  // The same by any factor: dst[i] = fma(s[1] - s[0], frac[i], s[0]), s = src + index[i]
  void (*enlarge_at)(float* dst, const float* src, const int32_t* index, const float* frac, int n);
  // dst[i] = fma(b[i] - a[i], f, a[i])
  void (*blend)(float* dst, const float* a, const float* b, float f, int n);

  // dst[i] = saturate(round_half_even((x[i] + m) * k)); NaN gives 0
  void (*store_u8)(uint8_t* dst, const float* x, int n, float m, float k);
  void (*store_u16)(uint16_t* dst, const float* x, int n, float m, float k);
  // Packed pixels from planes, each as store_u8
  void (*store_bgr_u8)(uint8_t* bgr, const float* b, const float* g, const float* r, int n, float mb, float mg, float mr, float k);
  // Packed pixels from bytes of Y, Cr, Cb by OpenCV's fixed-point YCrCb2BGR. Y is rounded from (y + m) * k, chroma from 255 times the value at f
  // between rows cr[0] and cr[1] and rows cb[0] and cb[1] (as blend).
  void (*store_ycrcb_u8)(uint8_t* bgr, const float* y, const float* const cr[2], const float* const cb[2], float f, int n, float m, float k);
  // The same, but Y is clipped only: what becomes of it and chroma is rounded once
  void (*store_fine_ycrcb_u8)(uint8_t* bgr, const float* y, const float* const cr[2], const float* const cb[2], float f, int n, float m, float k);
  // Float YCrCb to b, g, r planes
  void (*ycrcb_f32)(float* b, float* g, float* r, const float* y, const float* cr, const float* cb, int n);
};

// One per target unit; null when the unit is not compiled for this platform.
const ColourKernels* colour_kernels_scalar();
const ColourKernels* colour_kernels_avx2();
const ColourKernels* colour_kernels_avx512();
const ColourKernels* colour_kernels_neon();

}  // namespace fastsr
