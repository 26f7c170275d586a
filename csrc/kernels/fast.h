// The kernels of the tier `fast`, as a table of function pointers per instruction set: rows of half floats and a 3x3 convolution in 16-bit integers.
//
// Rows are as in kernels.h, of floats or of half floats (IEEE binary16, kept as uint16_t); kOverRead and kOverWrite count elements of either. A number
// beyond the half floats becomes the largest of its sign, not an infinity; NaN stays NaN.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace fastsr {

enum class Element : int32_t { kFloat, kHalf };

// winograd2d's convolution (kernels.h), which says what in, out, rows and columns must hold, with the transformed inputs and weights rounded to 16 bits.
// NaN in a row reaches the results as some number.
constexpr int kWinograd16Points = 36;
struct Winograd16Rows : ConvCommon {  // weights: made by winograd16_pack; strides in elements
  const void* const* in;              // 4 * ceil(rows / 4) + 2 pointers to channel 0 at the leftmost tap of pixel 0
  Element in_type;
  const void* const* residual;        // `rows` pointers, or null
  Element residual_type;
  void* const* out;                   // `rows` pointers
  Element out_type;
  int rows;
  void* scratch;                      // winograd16_scratch(cin, cout, width, rows) bytes, any alignment and contents
};

// What transformed inputs were like, for each point and input channel: [kWinograd16Points][cin]. To begin with all is zero; ranges of parts of a picture
// make one of all by the largest, the sum and the sum.
struct Winograd16Range {
  float* largest;   // magnitudes
  double* squares;  // their sum
  double tiles;
};

// Whether winograd16 is faster than what f32 takes. Measured as winograd_pays was, times that: 32->9 1.25 / 1.15, 64->8 1.5 / 1.15, 16->16 1.15 / 1.05,
// 24->24 1.35 / 1.25, 64->16 1.55 / 1.3, 64->64 1.6 / 1.6; not so 12->12 1.07 / 0.93, 10->10 1.02 / 0.95, 64->4 1.15 / 1.0.
inline bool winograd16_pays(int cin, int cout) { return static_cast<int64_t>(cin) * cout >= 7 * (static_cast<int64_t>(cin) + cout); }

struct FastKernels {
  const char* isa;  // as Kernels::isa
  const char* dot;  // the instruction that adds products of pairs: "vnni", "madd", "plain"; the results are the same

  // y[i] = x[i], n elements. They read and write whole vectors, up to kOverRead and kOverWrite.
  void (*half_to_float)(float* y, const uint16_t* x, int n);
  void (*float_to_half)(uint16_t* y, const float* x, int n);

  // Bytes of packed weights, a multiple of 64; w is (cout, cin, 3, 3) dense and finite. What range says of the inputs decides how they and the weights
  // are rounded: a property of the layer, so results do not depend on tiles. Transformed inputs beyond `margin` times the largest are cut off there.
  size_t (*winograd16_pack_size)(int cout, int cin);
  void (*winograd16_pack)(void* packed, const float* w, int cout, int cin, const Winograd16Range& range, float margin);
  size_t (*winograd16_scratch)(int cin, int cout, int width, int rows);
  void (*winograd16)(const Winograd16Rows& rows);
  // Adds a call's transformed inputs to `range`. Uses in, in_type, in_stride, cin, width, rows and scratch, which is as for winograd16 with any cout.
  void (*winograd16_measure)(const Winograd16Rows& rows, Winograd16Range& range);
};

// One per target unit; null when the unit is not compiled for this platform. `quick`: for processors with VNNI (avx512) or AVX-VNNI (avx2).
const FastKernels* fast_kernels_scalar(bool quick);
const FastKernels* fast_kernels_avx2(bool quick);
const FastKernels* fast_kernels_avx512(bool quick);
const FastKernels* fast_kernels_neon(bool quick);

}  // namespace fastsr
