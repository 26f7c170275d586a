// The kernels of the precision int8, as a table of function pointers: rows of bytes, and convolutions in 8-bit integers with exact sums.
//
// Rows of bytes: 32-bit words. Line l of a row holds channels 4 l .. 4 l + 3, the first in the lowest byte, each byte a whole number less `least`, from 0 to
// 255. So a row has (channels + 3) / 4 lines; bytes of channels that do not exist hold anything. What outside the picture is zero is the byte -least.
// kOverRead and kOverWrite (kernels.h) count words.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace fastsr {

// What becomes of a sum, in this order, each operation rounded to float once:
//   y = float(sum); y *= scale[k]; y += shift[k]; y = act(y); y = Quantize(low, high); y *= times
struct Finish8 {
  const float* scale = nullptr;  // of each channel; null: none
  const float* shift = nullptr;
  Act act = Act::kNone;
  float a = 0, b = 0;            // LeakyRelu: a; Clip: a..b
  const float* slope = nullptr;  // PRelu
  bool quantize = false;         // min(max(round half to even(y), low), high); NaN becomes low
  float low = 0, high = 0;
  float times = 1;
};

// One output row of a convolution:
//   out[k][x] = finish(bias[k] + sum over c, t of w[k][c][t] * (byte c of taps[t][x] + least))
struct Conv8Row {
  const uint32_t* const* taps;  // n_taps pointers to line 0, shifted to the tap
  ptrdiff_t in_stride;          // words from line to line
  int n_taps, cin, cout, width;
  const void* weights;  // made by conv8_pack, 64-byte aligned
  Finish8 finish;
  void* out;            // floats, or bytes where finish ends with quantize
  bool bytes;
  float least;          // of the result's bytes
  ptrdiff_t out_stride;
};

struct Int8Kernels {
  // x: four rows, null where there is no such channel. Whole numbers from least to least + 255. n elements; whole vectors are read and written.
  void (*float_to_bytes)(uint32_t* y, const float* const* x, int n, float least);
  void (*bytes_to_float)(float* y, const uint32_t* x, int byte, int n, float least);

  // Bytes of packed weights, a multiple of 64; w is (cout, cin, n_taps), whole numbers from -128 to 127; bias: cout whole numbers, or null. `least` of the
  // input. Sums must fit into 32 bits.
  size_t (*conv8_pack_size)(int cout, int cin, int n_taps);
  void (*conv8_pack)(void* packed, const float* w, int cout, int cin, int n_taps, const float* bias, float least);
  void (*conv8)(const Conv8Row& row);
};

}  // namespace fastsr
