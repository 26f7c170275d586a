// V of winograd16.h, which says where everything lies.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include <type_traits>

#include "winograd16_layout.h"
#include "winograd16_pack.h"
#include "winograd16_points.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// B^T d of one column, to the lines of each point.
template <int T>
FASTSR_INLINE void transform_column(const V (&d)[T + 2], float* lines, ptrdiff_t line) {
  V t[T + 2];
  Points16<T>::input(d, t);
  FASTSR_UNROLL for (int i = 0; i < T + 2; i++) store(lines + i * T * line, t[i]);
}

// The columns J and J + 1 of W tiles, of pairs those of both channels. second: floats from the first channel's lines to the second one's. line: floats from
// line to line.
template <int T, int J, class E>
FASTSR_INLINE void transform_columns(const Tiles<T, E> (&in)[T + 2], ptrdiff_t second, float* lines, ptrdiff_t line) {
  V d[T + 2];
  if constexpr (std::is_same_v<E, uint32_t>) {
    I both[2][T + 2];
    FASTSR_UNROLL for (int i = 0; i < T + 2; i++) residues<J>(in[i], both[0][i], both[1][i]);
    FASTSR_UNROLL for (int j = 0; j < 2; j++) {
      FASTSR_UNROLL for (int i = 0; i < T + 2; i++) d[i] = low_half(both[j][i]);
      transform_column<T>(d, lines + (J + j) * line, line);
      FASTSR_UNROLL for (int i = 0; i < T + 2; i++) d[i] = high_half(both[j][i]);
      transform_column<T>(d, lines + second + (J + j) * line, line);
    }
  } else {
    V e[T + 2];
    FASTSR_UNROLL for (int i = 0; i < T + 2; i++) residues<J>(in[i], d[i], e[i]);
    transform_column<T>(d, lines + J * line, line);
    transform_column<T>(e, lines + (J + 1) * line, line);
  }
}

template <int T, class E>
FASTSR_INLINE void transform_tiles(const E* const (&in)[T + 2], ptrdiff_t at, ptrdiff_t second, int n, float* lines, ptrdiff_t line) {
  Tiles<T, E> tiles[T + 2];
  FASTSR_UNROLL for (int i = 0; i < T + 2; i++) tiles[i] = load_tiles<T>(in[i] + at, n);
  transform_columns<T, 0>(tiles, second, lines, line);
  transform_columns<T, 2>(tiles, second, lines, line);
  if constexpr (T == 6) transform_columns<T, 4>(tiles, second, lines, line);
}

// The first two columns of one tile.
template <int T>
FASTSR_INLINE void transform_two(const V (&d)[T + 2], float* lines, ptrdiff_t line) {
  V t[T + 2];
  Points16<T>::input(d, t);
  FASTSR_UNROLL for (int i = 0; i < T + 2; i++) store_two(t[i], lines + i * T * line, lines + (i * T + 1) * line);
}
template <int T, class E>
FASTSR_INLINE void transform_two(const E* const (&in)[T + 2], ptrdiff_t at, ptrdiff_t second, float* lines, ptrdiff_t line) {
  V d[T + 2];
  if constexpr (std::is_same_v<E, uint32_t>) {
    I both[T + 2];
    FASTSR_UNROLL for (int i = 0; i < T + 2; i++) both[i] = load_two(in[i] + at);
    FASTSR_UNROLL for (int i = 0; i < T + 2; i++) d[i] = low_half(both[i]);
    transform_two<T>(d, lines, line);
    FASTSR_UNROLL for (int i = 0; i < T + 2; i++) d[i] = high_half(both[i]);
    transform_two<T>(d, lines + second, line);
  } else {
    FASTSR_UNROLL for (int i = 0; i < T + 2; i++) d[i] = load_two(in[i] + at);
    transform_two<T>(d, lines, line);
  }
}

// The lines of a run; of the tile behind it the first two columns too. in: its rows at its first pixel.
template <int T, class E>
FASTSR_NOINLINE void transform_run(const E* const (&in)[T + 2], int tiles, ptrdiff_t second, float* lines, ptrdiff_t line) {
  int i = 0;
  for (; T * (i + W) <= T * tiles + 2 + kOverRead && i < tiles; i += W, lines += W) transform_tiles<T>(in, ptrdiff_t{T} * i, second, kAll, lines, line);
  if (i < tiles) {
    transform_tiles<T>(in, ptrdiff_t{T} * i, second, T * (tiles - i) + 2, lines, line);
  } else if (i == tiles) {
    transform_two<T>(in, ptrdiff_t{T} * i, second, lines, line);
  }
}

template <int T>
FASTSR_INLINE void load_rows(const float* lines, ptrdiff_t line, V (&d)[T + 2]) {
  FASTSR_UNROLL for (int j = 0; j < T; j++) d[j] = load(lines + j * line);
  d[T] = load(lines + 1);
  d[T + 1] = load(lines + line + 1);
}

// B^T d along the rows of W tiles whose lines begin at `lines`.
template <int T>
FASTSR_INLINE void transform_rows(const float* lines, ptrdiff_t line, V (&t)[T + 2]) {
  V d[T + 2];
  load_rows<T>(lines, line, d);
  Points16<T>::input(d, t);
}
// The same of vector v of a block.
template <int T>
FASTSR_INLINE void transform_rows(const float* lines, ptrdiff_t line, const Block16& block, int v, V (&t)[T + 2]) {
  int at;
  if (block.together(v, at)) return transform_rows<T>(lines + at, line, t);
  alignas(64) float slots[W];
  for (int i = 0; i < W; i++) slots[i] = static_cast<float>(i);
  V d[T + 2], e[T + 2];
  load_rows<T>(lines + at, line, d);
  for (int i = block.pieces[v] + 1; i < block.pieces[v + 1]; i++) {
    const M before = lt(load(slots), set1(static_cast<float>(block.piece[i].slot)));
    load_rows<T>(lines + block.piece[i].line, line, e);
    FASTSR_UNROLL for (int j = 0; j < T + 2; j++) d[j] = select(before, d[j], e[j]);
  }
  Points16<T>::input(d, t);
}

// V of the points of a row of them, from the lines of two channels; `v`: the pair of channels there, `scales`: its s[p].
template <int T>
FASTSR_NOINLINE void round_tiles(const float* lines, ptrdiff_t line, ptrdiff_t second, const Block16& block, const float* scales, V most, int16_t* v,
                                 ptrdiff_t point) {
  FASTSR_NO_UNROLL for (int i = 0; i < block.vectors; i++, v += 2 * W) {
    V t[T + 2];
    I first[T + 2];
    transform_rows<T>(lines, line, block, i, t);
    FASTSR_UNROLL for (int j = 0; j < T + 2; j++) first[j] = whole(mul(t[j], set1(scales[j])), most);
    transform_rows<T>(lines + second, line, block, i, t);
    FASTSR_UNROLL for (int j = 0; j < T + 2; j++)
      store_pairs(v + j * point, pairs(first[j], whole(mul(t[j], set1(scales[(T + 2) * (T + 2) + j])), most)));
  }
}

// The rows of a run's group from its first pixel.
template <int T, class E>
struct Lines16 {
  const E* in[T + 2];
  Lines16(const Winograd16Rows& r, int group, int x, ptrdiff_t channel) {
    for (int i = 0; i < T + 2; i++) in[i] = static_cast<const E*>(r.in[T * group + i]) + channel + static_cast<ptrdiff_t>(T) * x;
  }
};

// The lines of channels c and c + 1 of a block.
template <int T, class E>
FASTSR_INLINE void transform_lines(const Winograd16Rows& r, const Layout16& l, const Block16& block, int c, float* lines) {
  const ptrdiff_t second = l.lines / 2;
  for (int i = 0; i < block.runs; i++) {
    const Run16& run = block.run[i];
    const ptrdiff_t channel = (r.in_type == Element::kPairs ? c / 2 : c) * r.in_stride;
    transform_run<T>(Lines16<T, E>(r, run.group, run.x, channel).in, run.tiles, second, lines + run.line, l.line);
    if (r.in_type != Element::kPairs && c + 1 < r.cin)
      transform_run<T>(Lines16<T, E>(r, run.group, run.x, channel + r.in_stride).in, run.tiles, second, lines + second + run.line, l.line);
  }
}

template <int T, class E>
void winograd16_input(const Winograd16Rows& r, const Layout16& l, const Block16& block, float* lines, int16_t* v, Fetch16& fetch) {
  constexpr int kPoints = T + 2;
  const float* scales = static_cast<const float*>(r.weights);
  const V most = set1(scales[0]);
  scales += 16;
  const ptrdiff_t second = l.lines / 2;
  for (int c = 0; c < r.cin; c += 2, v += 2 * W * block.vectors, scales += 2 * kPoints * kPoints) {
    for (int i = 0; i < 2 * block.runs; i++) fetch.step();
    transform_lines<T, E>(r, l, block, c, lines);
    const ptrdiff_t other = c + 1 < r.cin ? second : 0;
    for (int i = 0; i < kPoints; i++)
      round_tiles<T>(lines + i * T * l.line, l.line, other, block, scales + i * kPoints, most, v + i * kPoints * l.v, l.v);
  }
}

// Adds the transformed inputs of a block to `range`.
template <int T, class E>
void measure_block(const Winograd16Rows& r, const Layout16& l, const Block16& block, float* lines, Winograd16Range& range) {
  constexpr int kPoints = T + 2;
  float wanted[kDotVectors][W] = {};
  for (int v = 0; v < block.vectors; v++)
    for (int i = block.pieces[v]; i < block.pieces[v + 1]; i++)
      for (int j = 0; j < block.piece[i].tiles; j++) wanted[v][block.piece[i].slot + j] = 1;
  for (int c = 0; c < r.cin; c++) {
    if (c % 2 == 0) transform_lines<T, E>(r, l, block, c, lines);
    for (int i = 0; i < kPoints; i++) {
      V most[kPoints], squares[kPoints], t[kPoints];
      for (int j = 0; j < kPoints; j++) most[j] = squares[j] = set1(0.0f);
      for (int v = 0; v < block.vectors; v++) {
        const M here = lt(set1(0.0f), load(wanted[v]));
        transform_rows<T>(lines + c % 2 * (l.lines / 2) + i * T * l.line, l.line, block, v, t);
        for (int j = 0; j < kPoints; j++) {
          const V value = select(here, abs(t[j]), set1(0.0f));
          most[j] = max(value, most[j]);
          squares[j] = fma(value, value, squares[j]);
        }
      }
      for (int j = 0; j < kPoints; j++) {
        float a[W], b[W];
        store(a, most[j]);
        store(b, squares[j]);
        const ptrdiff_t at = static_cast<ptrdiff_t>(i * kPoints + j) * r.cin + c;
        for (int e = 0; e < W; e++) {
          if (a[e] > range.largest[at]) range.largest[at] = a[e];
          range.squares[at] += static_cast<double>(b[e]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
