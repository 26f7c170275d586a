// y of winograd16.h, which says where everything lies.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "half.h"
#include "winograd16_layout.h"
#include "winograd16_points.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

FASTSR_INLINE V load_element(const void* p, Element type, ptrdiff_t at) {
  return type == Element::kHalf ? load(static_cast<const uint16_t*>(p) + at) : load(static_cast<const float*>(p) + at);
}

template <int N>
FASTSR_INLINE void activate(const Winograd16Rows& r, V (&y)[N], int k) {
  if (r.act == Act::kRelu) {
    FASTSR_UNROLL for (int i = 0; i < N; i++) y[i] = max(y[i], set1(0.0f));
  } else if (r.act == Act::kClip) {
    FASTSR_UNROLL for (int i = 0; i < N; i++) y[i] = min(set1(r.b), max(set1(r.a), y[i]));
  } else if (r.act != Act::kNone) {
    const V slope = set1(r.act == Act::kPRelu ? r.slope[k] : r.a);
    FASTSR_UNROLL for (int i = 0; i < N; i++) y[i] = select(lt(y[i], set1(0.0f)), mul(y[i], slope), y[i]);
  }
}

// Whether channel k waits for the next one, with which it makes words.
FASTSR_INLINE bool first_of_two(const Winograd16Rows& r, int k) { return k % 2 == 0 && k + 1 < r.cout; }

// W neighbouring results: residual, activation and store. `first`: of pairs, from the first channel of two to the second one.
FASTSR_INLINE void finish_pixels(const Winograd16Rows& r, V pixels, int k, int row, ptrdiff_t x, uint32_t* first) {
  V y[1] = {pixels};
  if (r.residual) {
    if (!r.residual_first) activate(r, y, k);
    y[0] = add(y[0], load_element(r.residual[row], r.residual_type, k * r.residual_stride + x));
  }
  if (!r.residual || r.residual_first) activate(r, y, k);
  if (r.out_type == Element::kPairs) {
    const I value = whole(mul(y[0], set1(r.out_pairs.scale[k])), set1(r.out_pairs.most));
    uint32_t* const out = static_cast<uint32_t*>(r.out[row]) + k / 2 * r.out_stride + x;
    if (first_of_two(r, k)) store_words(first, value);
    else store_words(out, k % 2 ? words(load_ints(first), value) : words(value, zero()));
  } else if (r.out_type == Element::kHalf) {
    store(static_cast<uint16_t*>(r.out[row]) + k * r.out_stride + x, saturated(y[0]));
  } else {
    store(static_cast<float*>(r.out[row]) + k * r.out_stride + x, y[0]);
  }
}

template <int T, class E>
FASTSR_INLINE void add_residual(const E* p, V (&y)[T]) {
  const Groups<T, E> tiles = load_groups<T>(p, kAll);
  V a, b;
  residues<0>(tiles, a, b);
  y[0] = add(y[0], a);
  y[1] = add(y[1], b);
  residues<2>(tiles, a, b);
  y[2] = add(y[2], a);
  y[3] = add(y[3], b);
  if constexpr (T == 6) {
    residues<4>(tiles, a, b);
    y[4] = add(y[4], a);
    y[5] = add(y[5], b);
  }
}

// A row of W neighbouring tiles from pixel x on: residual, activation and store.
template <int T>
FASTSR_INLINE void finish_tiles(const Winograd16Rows& r, V (&y)[T], int k, int row, ptrdiff_t x, uint32_t* first) {
  if (r.residual) {
    if (!r.residual_first) activate(r, y, k);
    const ptrdiff_t at = k * r.residual_stride + x;
    if (r.residual_type == Element::kHalf) add_residual<T>(static_cast<const uint16_t*>(r.residual[row]) + at, y);
    else add_residual<T>(static_cast<const float*>(r.residual[row]) + at, y);
  }
  if (!r.residual || r.residual_first) activate(r, y, k);
  if (r.out_type == Element::kHalf) {
    uint16_t* const out = static_cast<uint16_t*>(r.out[row]) + k * r.out_stride + x;
    FASTSR_UNROLL for (int i = 0; i < T; i++) y[i] = saturated(y[i]);
#if FASTSR_STORE_TILES
    store_tiles<T>(out, y);
#else
    untile(y);
    FASTSR_UNROLL for (int i = 0; i < T; i++) store(out + i * W, y[i]);
#endif
    return;
  }
  if (r.out_type == Element::kFloat) {
    float* const out = static_cast<float*>(r.out[row]) + k * r.out_stride + x;
    untile(y);
    FASTSR_UNROLL for (int i = 0; i < T; i++) store(out + i * W, y[i]);
    return;
  }
  const V scale = set1(r.out_pairs.scale[k]), most = set1(r.out_pairs.most);
  if (first_of_two(r, k)) {
    FASTSR_UNROLL for (int i = 0; i < T; i++) store_words(first + i * W, whole(mul(y[i], scale), most));
    return;
  }
  FASTSR_UNROLL for (int i = 0; i < T; i++) {
    const I value = whole(mul(y[i], scale), most);
    y[i] = as_floats(k % 2 ? words(load_ints(first + i * W), value) : words(value, zero()));
  }
  untile(y);
  uint32_t* const out = static_cast<uint32_t*>(r.out[row]) + k / 2 * r.out_stride + x;
  FASTSR_UNROLL for (int i = 0; i < T; i++) store_words(out + i * W, as_ints(y[i]));
}

// A row of a vector of tiles that is not of one run alone. row: of the first group; `first`: TY rows.
template <int TY, int TX>
FASTSR_NOINLINE void finish_pieces(const Winograd16Rows& r, const float* pixels, int k, int row, const Run16* piece, const Run16* end, uint32_t* first) {
  for (; piece < end; piece++) {
    if (TY * piece->group + row >= r.rows) continue;
    const ptrdiff_t x = static_cast<ptrdiff_t>(TX) * piece->x;
    const int at = TX * piece->slot, n = TX * piece->tiles < r.width - x ? TX * piece->tiles : static_cast<int>(r.width - x);
    for (int i = 0; i < n; i += W) finish_pixels(r, load(pixels + at + i), k, TY * piece->group + row, x + i, first + at + i);
  }
}

template <int TX>
constexpr int kFirst = (TX + 1) * W;

// y of one vector of tiles of output channel k from its M. first: TY rows of kFirst words.
template <int TY, int TX>
FASTSR_NOINLINE void output_tiles(const Winograd16Rows& r, const int32_t* m, const float* coefs, int k, const Block16& block, int vector, uint32_t* first) {
  constexpr int kPoints = TX + 2;
  V columns[TY][kPoints];  // A^T of each column of points, in registers where there are enough
  V start = set1(0.0f);
  FASTSR_UNROLL for (int j = 0; j < kPoints; j++) {
    V p[TY + 2], y[TY];
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) p[i] = load_sums(m + (i * kPoints + j) * W);
    Points16<TY>::scaled(p, coefs + j * Points16<TY>::kCoefs, start, y);
    FASTSR_UNROLL for (int i = 0; i < TY; i++) columns[i][j] = y[i];
    start = set1(j == 0 && r.bias ? r.bias[k] : 0.0f);  // every result has the point (1, 1) once
  }
  const Run16 *const piece = block.piece + block.pieces[vector], *const end = block.piece + block.pieces[vector + 1];
  const bool whole = block.whole(vector);
  V rows[TY][TX];
  FASTSR_UNROLL for (int i = 0; i < TY; i++) Points16<TX>::output(columns[i], rows[i]);
  if (whole) {
    FASTSR_UNROLL for (int i = 0; i < TY; i++) {
      const int row = TY * piece->group + i;
      if (row < r.rows) finish_tiles(r, rows[i], k, row, static_cast<ptrdiff_t>(TX) * piece->x, first + i * kFirst<TX>);
    }
    return;
  }
  FASTSR_UNROLL for (int i = 0; i < TY; i++) {
    float pixels[(TX + 1) * W];
    untile(rows[i]);
    FASTSR_UNROLL for (int j = 0; j < TX; j++) store(pixels + j * W, rows[i][j]);
    store(pixels + TX * W, rows[i][TX - 1]);  // finish_pieces takes whole vectors
    finish_pieces<TY, TX>(r, pixels, k, i, piece, end, first + i * kFirst<TX>);
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
