// The kernels, as a table of function pointers per instruction set.
//
// A picture tensor lives in rows: one row holds all channels of one line, channel after channel ("HCW"), `stride` floats from one channel to the next.
// Kernels work along x, one vector lane per pixel, so any channel count is efficient. Every result element is computed by the same sequence of
// operations wherever it lies in a row, so results do not depend on tiling.
//
// Over-read: a kernel may read up to kOverRead floats past the last element it needs and write up to kOverWrite floats past the last
// element it makes, within the same row's slack; those elements are garbage afterwards. Rows need no alignment.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastsr {

constexpr int kOverRead = 64;
constexpr int kOverWrite = 64;
constexpr int kConvOverWrite = 16;  // of the convolutions, all of them

enum class Act : int32_t { kNone, kRelu, kLeakyRelu, kPRelu, kClip };

// What the convolutions below have in common: channels, weights, and what is done to the sums. Rows of channels are `stride` floats apart.
struct ConvCommon {
  ptrdiff_t in_stride;
  int cin, cout, width;
  const float* weights;  // packed for the kernel in question, 64-byte aligned
  const float* bias;     // cout floats, or null
  Act act;
  float a, b;            // LeakyRelu: a; Clip: a..b
  const float* slope;    // PRelu: cout floats
  ptrdiff_t residual_stride;
  bool residual_first;   // true: act(x + residual); false: act(x) + residual
  ptrdiff_t out_stride;
};

// One output row of a convolution (one group), all output channels. out[k][x] = store(bias[k] + sum over c, t of w[k][c][t] * taps[t][c * in_stride + x]),
// summed in the order c outer, t inner, fused multiply-adds. Stride and dilation live in the tap pointers (see deinterleave).
struct ConvRow : ConvCommon {
  const float* const* taps;  // n_taps pointers to channel 0, already shifted by the tap's dx
  int n_taps;
  const float* residual;  // added element by element, or null
  float* out;
};

// Output rows of a convolution of size x size, stride 1, dilation 1 and one group, by Winograd's algorithm:
//   out[i][k][x] = store(bias[k] + sum over c, ky, kx of w[k][c][ky][kx] * in[i + ky][c * in_stride + x + kx]), i < rows
//
// winograd (winograd.h): F(4, size) along y, size 3 or 5, 1..4 rows. `in` has size + 3 pointers. Every result depends on all these lines through rounding.
// So all of them must hold the picture's values, or zeros outside it, whatever `rows` is, and a picture must be cut into the same groups of rows in every
// tiling. An infinity or NaN in a line can reach all rows, as NaN.
//
// winograd2d (winograd2d.h): F(T x T, 3x3) with T = `tile`, 4 or 6, size 3; 36 multiply-adds per 16 results instead of 144, or 64 per 36 instead of 324. Any
// number of rows, that is ceil(rows / T) groups of T one below the other: `in` has T * groups + 2 pointers. Tiles must begin at the same columns of the
// picture in every tiling, and what was said of lines holds for columns too: of every T columns of the result begun, all T + 2 columns of the input must
// hold the picture's values, or zeros outside it. Over-read counts from the last of these; over-write from the last pixel as everywhere. `out` must not overlap what is read: pixels hold
// garbage until their turn comes.
constexpr int kWinogradRows = 4;
struct WinogradRows : ConvCommon {
  const float* const* in;        // pointers to channel 0 at the leftmost tap of pixel 0
  const float* const* residual;  // `rows` pointers to rows of the residual, or null
  float* const* out;             // `rows` pointers
  int rows, size;
  int tile;        // winograd2d: 4 or 6
  float* scratch;  // winograd_scratch or winograd2d_scratch floats, which never shrink with growing width or rows; any alignment and contents
};

// Codes of docs/fsr.md, element-wise part.
enum class Pointwise : int32_t {
  kRelu = 1, kLeakyRelu, kPRelu, kClip, kTanh, kSigmoid, kHardSigmoid, kHardSwish, kSilu, kGelu, kMish, kAbs, kNeg,
  kAdd, kSub, kMul, kDiv, kMax, kMin, kRSub, kRDiv,
  kQuantize = 23, kSqrt,
};

struct Kernels {
  const char* isa;  // "scalar", "avx2", "avx512", "neon"

  // Floats needed for packed weights; w is (cout, cin, n_taps) dense.
  size_t (*conv_pack_size)(int cout, int cin, int n_taps);
  void (*conv_pack)(float* packed, const float* w, int cout, int cin, int n_taps);
  void (*conv)(const ConvRow& row);

  // Floats needed for packed weights; w is (cout, cin, size, size) dense.
  size_t (*winograd_pack_size)(int cout, int cin, int size);
  void (*winograd_pack)(float* packed, const float* w, int cout, int cin, int size);
  size_t (*winograd_scratch)(int cin, int cout, int size, int width);
  void (*winograd)(const WinogradRows& rows);

  // The same for winograd2d, size 3; tile: its size; rows: of a call.
  size_t (*winograd2d_pack_size)(int tile, int cout, int cin);
  void (*winograd2d_pack)(int tile, float* packed, const float* w, int cout, int cin);
  size_t (*winograd2d_scratch)(int tile, int cin, int cout, int width, int rows);
  void (*winograd2d)(const WinogradRows& rows);

  // x[i] = op(x[i]) in place for n elements; a, b as in docs/fsr.md (PRelu: a is the slope). Add .. RDiv with scalar operand a.
  void (*unary)(Pointwise op, float* x, int n, float a, float b);
  // x[i] = op(x[i], y[i]); Add .. RDiv only.
  void (*binary)(Pointwise op, float* x, const float* y, int n);

  // dst[i * block + j] = src[j][i], i < n, j < block.
  void (*interleave)(float* dst, const float* const* src, int n, int block);
  // dst[j][i] = src[i * block + j].
  void (*deinterleave)(float* const* dst, const float* src, int n, int block);

  // dst[i] = sum over t < n_taps of coef[i * n_taps + t] * src[index[i * n_taps + t]]
  void (*resize_h)(float* dst, const float* src, const int32_t* index, const float* coef, int n_taps, int n);
  // dst[i] = sum over t of coef[t] * rows[t][i]
  void (*resize_v)(float* dst, const float* const* rows, const float* coef, int n_taps, int n);
};

// Whether winograd is faster than conv, and winograd2d than both; the same for all instruction sets, so that their results agree. What is saved grows with
// cin * cout, the transforms cost as cin + cout, that of the input little where cin is 1. Measured inside the engine (fastsr bench --kernels), Zen 5, rows of
// 480 pixels, AVX-512 / AVX2:
//   winograd, times conv's rate     6->6 1.1 / 1.3, 32->4 1.05 / 1.35, 64->4 1.05 / 1.3, 4->64 1.4 / 1.4, 3->64 1.3 / 1.35, 3->24 1.1 / 1.3, 2->32 1.15 / 1.15
//                         not so    5->5 1.07 / 1.2, 64->3 0.9 / 1.3, 3->16 1.1 / 1.2, 2->16 1.0 / 1.15, 64->1 0.8 / 1.0, 1->64 1.0 / 0.9
//                of 5x5   1->8 1.1 / 1.2, 1->64 1.45 / 1.4, 2->1 1.3 / 1.3, 2->2 1.2 / 1.2, 32->1 1.35 / 1.35, 64->3 1.4 / 1.75, 56->4 1.55 / 1.85,
//                         12->12 1.9 / 2.1, 3->64 1.9 / 1.75, 64->64 2.8 / 2.6
//                         not so    1->1 0.9 / 0.95, 1->4 1.1 / 1.0, 1->6 1.1 / 1.05
//   winograd2d, times winograd's    12->12 1.1 / 1.3, 8->64 1.03 / 1.4, 32->9 1.15 / 1.35, 64->8 1.0 / 1.25, 16->16 1.2 / 1.4, 64->16 1.25 / 1.45
//                         not so    8->8 0.95 / 1.05, 10->10 1.0 / 1.1, 16->8 1.07 / 1.2
inline bool winograd_pays(int cin, int cout, int size) {
  if (size == 5) return cin >= 2 || cout >= 8;
  return static_cast<int64_t>(cin) * cout >= 3 * (static_cast<int64_t>(cin) + cout) || (cin >= 2 && cout >= 24);
}
inline bool winograd2d_pays(int cin, int cout) { return static_cast<int64_t>(cin) * cout >= 6 * (static_cast<int64_t>(cin) + cout); }
// winograd2d with tiles of 6x6 instead of 4x4. Measured alone, Zen 4, rows of 480 pixels, times the rate of 4x4, AVX-512 / AVX2: 48->48 1.17 / 1.16,
// 64->64 1.1 / 1.09 (640 pixels), 96->96 1.15 / 1.04, 256->256 1.19 / - (96 pixels), 64->32 1.17 / 1.10, 32->32 1.17 / 1.07.
// It errs four times as much, and more the fewer input channels there are to add up, relative to their sum: so it is only for layers that read many
// channels, those of dense networks (RRDB, 96..192->32 and ->64, as a whole 1.15) and of wide ones.
inline bool winograd6x6_pays(int cin, int cout) { return cin >= 96 && static_cast<int64_t>(cin) * cout >= 24 * (static_cast<int64_t>(cin) + cout); }

// One per target unit; null when the unit is not compiled for this platform.
const Kernels* kernels_scalar();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_neon();

}  // namespace fastsr
