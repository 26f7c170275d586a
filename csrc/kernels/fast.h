// The kernels of the tier `fast`, as a table of function pointers per instruction set: rows of half floats and of pairs, and convolutions in 16-bit integers.
//
// Rows are as in kernels.h, with elements of one of three kinds; kOverRead and kOverWrite count elements:
//   floats
//   half floats: IEEE binary16, kept as uint16_t. A number beyond them becomes the largest of its sign, not an infinity; NaN stays NaN.
//   pairs: 32-bit words. Line c of a row holds channel 2 c in the lower and channel 2 c + 1 in the upper half, as 16-bit integers round(scale[channel] * x),
//   half to even, cut off to -most..most; NaN becomes some number. So a row has (channels + 1) / 2 lines; the upper half of an odd last one is zero.
#pragma once
#include <cstddef>
#include <cstdint>

#include "int8.h"
#include "kernels.h"

namespace fastsr {

enum class Element : int32_t { kFloat, kHalf, kPairs, kBytes };  // kBytes: int8.h, only between convolutions of int8

constexpr float kMostHalf = 65504;  // the largest half float

// How a value is kept as pairs: a property of the value, so that results do not depend on tiles.
struct PairScales {
  const float* scale;  // of each channel, more than zero
  float most;          // a whole number, at most 32767
};

// Results of a tile of winograd16; none: no rows.
struct Tile16 {
  int rows = 0, columns = 0;
  explicit operator bool() const { return rows > 0; }
  int points() const { return (rows + 2) * (columns + 2); }
};

// winograd2d's convolution (kernels.h), which says what in, out, rows and columns must hold, with the transformed inputs and weights rounded to 16 bits.
// NaN in a row reaches the results as some number. Groups are of a tile's rows and columns.
struct Winograd16Rows : ConvCommon {  // weights: made by pack; strides in elements
  const void* const* in;              // pointers, as many as the rows of all groups and 2, to channel 0 at the leftmost tap of pixel 0
  Element in_type;                    // any; kPairs: their scales are within the weights
  const void* const* residual;        // `rows` pointers, or null
  Element residual_type;              // kFloat or kHalf
  void* const* out;                   // `rows` pointers
  Element out_type;                   // any
  PairScales out_pairs;               // kPairs: of the result
  int rows;
  void* scratch;                      // scratch(cin, cout, width, rows) bytes, any alignment and contents
};

// What transformed inputs were like, for each of the tile's points and each input channel: [point][cin]. To begin with all is zero; ranges of parts
// of a picture make one of all by the largest, the sum and the sum.
struct Winograd16Range {
  float* largest;   // magnitudes
  double* squares;  // their sum
  double tiles;
};

// Whether winograd16 is faster than what f32 takes. Measured as winograd_pays was, times that: 32->9 1.25 / 1.15, 64->8 1.5 / 1.15, 16->16 1.15 / 1.05,
// 24->24 1.35 / 1.25, 64->16 1.55 / 1.3, 64->64 1.6 / 1.6; not so 12->12 1.07 / 0.93, 10->10 1.02 / 0.95, 64->4 1.15 / 1.0.
inline bool winograd16_pays(int cin, int cout) { return static_cast<int64_t>(cin) * cout >= 7 * (static_cast<int64_t>(cin) + cout); }

// Whether tiles of 6x6 are then faster than those of 6x4: while their weights, 128 bytes of each pair of channels, leave most of the second cache level to
// the rows. Whole networks on a Zen 5, the time of 6x4 (4x4) over that of 6x6: 64->32 1.06 (1.1), 64->64 0.77..0.93 (0.76..0.96), 256->256 0.98 (1.05).
inline bool winograd16x6_pays(int cin, int cout) { return static_cast<int64_t>(cin) * cout <= 3072; }

// One output row of a convolution with stride 1 and one group, in 16-bit integers with exact sums in 32 bits:
//   y[k][x] = store(bias[k] + sum over c, i < kh, j < kw of w[k][c][i][j] * line_i[c][x + j * dilation]), k < cout, x < width
// The input is a row of pairs for each i. All sums fit into 32 bits whatever the input is. Act as in ConvCommon; with an output of pairs the activation is
// not kClip.
struct Conv16Row : ConvCommon {   // weights: made by conv16_pack, and bias is within them; strides in elements (words of pairs)
  const uint32_t* const* lines;   // kh pointers to line 0 at the leftmost tap of pixel 0
  int kh, kw, dilation;
  const void* residual;           // or null
  Element residual_type;          // kFloat, kHalf or kPairs
  const float* residual_scale;    // of each output channel, what makes the residual's numbers those of the output: 1 / scale of pairs, times scale of pairs
  void* out;
  Element out_type;
  float most;                     // kPairs: of the result
  void* scratch;                  // conv16_scratch(cin, kh, kw, width) bytes, any alignment and contents
};

// Whether conv16 is faster than what f32 takes, where winograd16 does not pay. It halves the multiply-adds, at the price of finishing and rounding results.
// Measured on a Zen 5, rows of 480 pixels, pairs to pairs (to floats where there are 4 results or fewer), times the fastest f32 kernel's rate; AVX-512 VNNI /
// AVX2 VNNI / AVX2:
//   5x5: 1->64 1.4 / 1.1 / 1.05, 56->4 1.85 / 1.85 / 1.55, 32->1 2.9 / 2.6 / 2.4     9x9: 1->64 1.7 / 1.5 / 1.4
//   3x3: 12->12 1.2 / 0.9 / 0.8, 8->8 1.45 / 1.15 / 0.95, 32->4 1.8 / 1.35 / 1.1, 64->3 1.75 / 1.8 / 1.65, 3->64 1.4 / 1.1 / 1.1, 1->32 1.0 / 0.65 / 0.65
//   1x1: 64->32 1.75 / 1.6 / 1.4, 56->12 1.75 / 1.6 / 1.4, 12->56 1.3 / 0.9 / 0.8, 16->1 1.5 / 1.0 / 1.0
// not so 3x3: 1->8 0.95 / 0.8 / 0.6     5x5: 1->4 0.85 / 0.9 / 0.7     1x1: 5->32 0.9 / 0.5 / 0.5
inline bool conv16_pays(int cin, int cout, int kh, int kw) {
  const int64_t terms = static_cast<int64_t>(cin) * kh * kw;
  return terms >= (cout >= 16 ? 9 : 12) && static_cast<int64_t>(cin) * cout >= 8 && terms * cout >= 64;  // with less work there is little to gain
}

// One or two output rows of a convolution as conv16 makes them, with dilation 1 along y, from fewer multiplications (conv16_rows.h): a row's results do not
// depend on whether it is made alone, as the first or as the second.
constexpr float kConv16RowsMost = 16383;  // of the input's PairScales, at most
constexpr int kConv16RowsReach = 32;      // kw * dilation, at most
struct Conv16Rows : ConvCommon {   // weights: made by conv16_rows_pack
  const uint32_t* const* lines;    // kh + 1 pointers; of one row the last may point to any line
  int kh, kw, dilation;            // kh: more than 1
  int rows;                        // 1 or 2
  const void* const* residual;     // `rows` pointers, or null
  Element residual_type;
  const float* residual_scale;
  void* const* out;                // `rows` pointers
  Element out_type;
  float most;
  void* scratch;                   // conv16_rows_scratch(cin, kh, width) bytes
};

// Whether conv16_rows is faster than conv16: what it saves grows with kw * cout, what making its lines takes does not. Times conv16's rate, rows of 960
// pixels, AVX-512 VNNI / AVX2 VNNI / AVX2: 3x3 12->12 1.2 / 1.05 / 0.9, 16->16 1.2 / 1.15 / 0.9, 5x5 64->32 1.3 / 1.15 / 0.95, 9x9 3->64 1.4 / 1.35 / 0.95,
// 9x9 1->64 1.3 / 1.2 / 0.95; not so 3x3 32->9 1.0 / 1.15 / 0.9, 32->4 0.85 / 0.95 / 0.85, 5x5 1->64 0.95 / 0.85 / 0.8, 12->4 1.0 / 0.95 / 0.85.
inline bool conv16_rows_pays(int cin, int cout, int kh, int kw) { return kh > 1 && kw * cout >= 32 && (cin > 1 || kw >= 7); }

// winograd16 with tiles of one size.
struct Winograd16 {
  Tile16 tile;
  // Bytes of packed weights, a multiple of 64; w is (cout, cin, 3, 3) dense and finite. What range says of the inputs decides how they and the weights
  // are rounded: a property of the layer, so results do not depend on tiles. Transformed inputs beyond `margin` times the largest are cut off there.
  size_t (*pack_size)(int cout, int cin);
  // in_scale: of the input's channels where it is kept as pairs, else null.
  void (*pack)(void* packed, const float* w, int cout, int cin, const Winograd16Range& range, float margin, const float* in_scale);
  size_t (*scratch)(int cin, int cout, int width, int rows);
  void (*run)(const Winograd16Rows& rows);
  // Adds a call's transformed inputs, not of pairs, to `range`. Uses in, in_type, in_stride, cin, width, rows and scratch, which is as for run with any cout.
  void (*measure)(const Winograd16Rows& rows, Winograd16Range& range);
};

struct FastKernels {
  const char* isa;  // as Kernels::isa
  const char* dot;  // the instruction that adds products of pairs: "vnni", "madd", "plain"; the results are the same

  // y[i] = x[i], n elements. They read and write whole vectors, up to kOverRead and kOverWrite.
  void (*half_to_float)(float* y, const uint16_t* x, int n);
  void (*float_to_half)(uint16_t* y, const float* x, int n);

  Winograd16 winograd16[3];  // tiles of 4x4, 6x4 and 6x6

  // x0, x1: two channels; x1 is null where there is none. n elements; whole vectors are read and written, up to kOverRead and kOverWrite.
  void (*float_to_pairs)(uint32_t* y, const float* x0, const float* x1, int n, float scale0, float scale1, float most);
  void (*pairs_to_float)(float* y0, float* y1, const uint32_t* x, int n, float scale0, float scale1);  // y[i] = x[i] / scale; y1 may be null

  // Bytes of packed weights, a multiple of 64; w is (cout, cin, kh, kw) dense and finite. bias: cout floats or null. in: how the input is kept. out_scale: of
  // the result's channels where it is kept as pairs, else null.
  size_t (*conv16_pack_size)(int cout, int cin, int kh, int kw);
  void (*conv16_pack)(void* packed, const float* w, int cout, int cin, int kh, int kw, const float* bias, const PairScales& in, const float* out_scale);
  // The `most` of its input with which a convolution errs least: more makes the input finer and the weights coarser. limits: of each input channel, the
  // number that `most` stands for; powers: of each, the mean square of the input.
  float (*conv16_most)(const float* w, int cout, int cin, int kh, int kw, const float* limits, const double* powers);
  size_t (*conv16_scratch)(int cin, int kh, int kw, int width);
  void (*conv16)(const Conv16Row& row);

  // The same for conv16_rows.
  size_t (*conv16_rows_pack_size)(int cout, int cin, int kh, int kw);
  void (*conv16_rows_pack)(void* packed, const float* w, int cout, int cin, int kh, int kw, const float* bias, const PairScales& in, const float* out_scale);
  float (*conv16_rows_most)(const float* w, int cout, int cin, int kh, int kw, const float* limits, const double* powers);
  size_t (*conv16_rows_scratch)(int cin, int kh, int width);
  void (*conv16_rows)(const Conv16Rows& rows);

  Int8Kernels int8;
};

// tile: one of these.
inline const Winograd16& winograd16_of(const FastKernels& kernels, Tile16 tile) { return kernels.winograd16[(tile.rows == 6) + (tile.columns == 6)]; }

// One per target unit; null when the unit is not compiled for this platform. `quick`: for processors with VNNI (avx512) or AVX-VNNI (avx2).
const FastKernels* fast_kernels_scalar(bool quick);
const FastKernels* fast_kernels_avx2(bool quick);
const FastKernels* fast_kernels_avx512(bool quick);
const FastKernels* fast_kernels_neon(bool quick);

}  // namespace fastsr
