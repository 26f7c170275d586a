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
template <int TY, int TX>
FASTSR_INLINE void transform_column(const V (&d)[TY + 2], float* lines, ptrdiff_t line) {
  V t[TY + 2];
  Points16<TY>::input(d, t);
  FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) store(lines + i * TX * line, t[i]);
}

// The columns J and J + 1 of W tiles whose first pixels are `at` elements behind `rows`, of which n may be read; of pairs the columns of both channels.
// second: floats from the first channel's lines to the second one's. line: floats from line to line.
template <int TY, int TX, int J, class E>
FASTSR_INLINE void transform_columns(const E* const (&rows)[TY + 2], ptrdiff_t at, ptrdiff_t second, int n, float* lines, ptrdiff_t line) {
  V d[TY + 2];
  if constexpr (std::is_same_v<E, uint32_t>) {
    I both[2][TY + 2];
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) residues<J>(load_groups<TX>(rows[i] + at, n), both[0][i], both[1][i]);
    FASTSR_UNROLL for (int j = 0; j < 2; j++) {
      FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) d[i] = low_half(both[j][i]);
      transform_column<TY, TX>(d, lines + (J + j) * line, line);
      FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) d[i] = high_half(both[j][i]);
      transform_column<TY, TX>(d, lines + second + (J + j) * line, line);
    }
  } else {
    V e[TY + 2];
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) residues<J>(load_groups<TX>(rows[i] + at, n), d[i], e[i]);
    transform_column<TY, TX>(d, lines + J * line, line);
    transform_column<TY, TX>(e, lines + (J + 1) * line, line);
  }
}

template <int TY, int TX, class E>
FASTSR_INLINE void transform_tiles(const E* const (&in)[TY + 2], ptrdiff_t at, ptrdiff_t second, int n, float* lines, ptrdiff_t line) {
  static_assert(W > 8 || TX * W <= TX + 2 + kOverRead, "sets without wide permutations read all groups");
  transform_columns<TY, TX, 0>(in, at, second, n, lines, line);
  transform_columns<TY, TX, 2>(in, at, second, n, lines, line);
  if constexpr (TX == 6) transform_columns<TY, TX, 4>(in, at, second, n, lines, line);
}

// The first two columns of one tile.
template <int TY, int TX>
FASTSR_INLINE void transform_two(const V (&d)[TY + 2], float* lines, ptrdiff_t line) {
  V t[TY + 2];
  Points16<TY>::input(d, t);
  FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) store_two(t[i], lines + i * TX * line, lines + (i * TX + 1) * line);
}
template <int TY, int TX, class E>
FASTSR_INLINE void transform_two(const E* const (&in)[TY + 2], ptrdiff_t at, ptrdiff_t second, float* lines, ptrdiff_t line) {
  V d[TY + 2];
  if constexpr (std::is_same_v<E, uint32_t>) {
    I both[TY + 2];
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) both[i] = load_two(in[i] + at);
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) d[i] = low_half(both[i]);
    transform_two<TY, TX>(d, lines, line);
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) d[i] = high_half(both[i]);
    transform_two<TY, TX>(d, lines + second, line);
  } else {
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) d[i] = load_two(in[i] + at);
    transform_two<TY, TX>(d, lines, line);
  }
}

#if FASTSR_HALF_TILES
// W / 2 tiles.
template <int TY, int TX>
FASTSR_INLINE void transform_half(const uint16_t* const (&in)[TY + 2], ptrdiff_t at, int n, float* lines, ptrdiff_t line) {
  V d[TY + 2][TX / 2], e[TY + 2], t[TY + 2];
  FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) half_tiles<TX>(in[i] + at, n, d[i]);
  FASTSR_UNROLL for (int j = 0; j < TX / 2; j++, lines += 2 * line) {
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) e[i] = d[i][j];
    Points16<TY>::input(e, t);
    FASTSR_UNROLL for (int i = 0; i < TY + 2; i++) store_halves(t[i], lines + i * TX * line, lines + (i * TX + 1) * line);
  }
}
#endif

// The lines of a run; of the tile behind it the first two columns too. in: its rows at its first pixel.
template <int TY, int TX, class E>
FASTSR_NOINLINE void transform_run(const E* const (&in)[TY + 2], int tiles, ptrdiff_t second, float* lines, ptrdiff_t line) {
#if FASTSR_HALF_TILES
  constexpr int kHalf = std::is_same_v<E, uint16_t> ? W / 2 : 0;
#else
  constexpr int kHalf = 0;
#endif
  int i = 0;
  for (; TX * (i + W) <= TX * tiles + 2 + kOverRead && tiles - i > kHalf; i += W, lines += W)
    transform_tiles<TY, TX>(in, ptrdiff_t{TX} * i, second, kAll, lines, line);
  if (tiles - i > kHalf) {
    transform_tiles<TY, TX>(in, ptrdiff_t{TX} * i, second, TX * (tiles - i) + 2, lines, line);
    i += W;
  }
#if FASTSR_HALF_TILES
  if constexpr (kHalf > 0) {
    if (i < tiles) {
      transform_half<TY, TX>(in, ptrdiff_t{TX} * i, TX * (tiles - i) + 2, lines, line);
      i += kHalf;
      lines += kHalf;
    }
  }
#endif
  if (i == tiles) transform_two<TY, TX>(in, ptrdiff_t{TX} * i, second, lines, line);
}

// What is kept of a channel, from its lines: [vector][point in y's direction][column][tile].
template <int TY, int TX>
FASTSR_INLINE float* kept_columns(float* lines, ptrdiff_t line) { return lines + (TY + 2) * TX * line; }
template <int TY>
constexpr ptrdiff_t kept_at(int vector, int point) { return (ptrdiff_t{vector} * (TY + 2) + point) * kKeptColumns * W; }

// Keeps the columns behind a run, which the lines of the next one will overwrite.
template <int TY, int TX>
FASTSR_INLINE void keep_columns(float* lines, ptrdiff_t line, const Run16& run) {
  const int end = run.line + run.tiles, vector = (end - 1) / W, tile = (end - 1) % W;
  for (int i = 0; i < TY + 2; i++)
    for (int j = 0; j < kKeptColumns; j++) kept_columns<TY, TX>(lines, line)[kept_at<TY>(vector, i) + j * W + tile] = lines[(i * TX + j) * line + end];
}

// B^T d along the rows of W tiles whose lines begin at `lines`. end, kept: null, or those of the vector of tiles.
template <int TX>
FASTSR_INLINE void transform_rows(const float* lines, ptrdiff_t line, const float* end, const float* kept, V (&t)[TX + 2]) {
  V d[TX + 2];
  FASTSR_UNROLL for (int j = 0; j < TX; j++) d[j] = load(lines + j * line);
  d[TX] = load(lines + 1);
  d[TX + 1] = load(lines + line + 1);
  if (end) {
    const M here = lt(set1(0.5f), load(end));
    d[TX] = select(here, load(kept), d[TX]);
    d[TX + 1] = select(here, load(kept + W), d[TX + 1]);
  }
  Points16<TX>::input(d, t);
}

// V of one vector of tiles and two channels, whose lines are `second` floats apart; `v`: their place there, `scales`: their s[p].
template <int TY, int TX>
FASTSR_INLINE void round_rows(const float* lines, ptrdiff_t line, ptrdiff_t second, const float* end, const float* kept, const float* scales, V most,
                              int16_t* v, ptrdiff_t point) {
  constexpr int kPoints = TX + 2;
  FASTSR_NO_UNROLL for (int i = 0; i < TY + 2; i++, lines += TX * line, kept += kKeptColumns * W, scales += kPoints, v += kPoints * point) {
    V t[kPoints];
    I first[kPoints];
    transform_rows<TX>(lines, line, end, kept, t);
    FASTSR_UNROLL for (int j = 0; j < kPoints; j++) first[j] = whole(mul(t[j], set1(scales[j])), most);
    transform_rows<TX>(lines + second, line, end, kept + second, t);
    FASTSR_UNROLL for (int j = 0; j < kPoints; j++)
      store_pairs(v + j * point, pairs(first[j], whole(mul(t[j], set1(scales[points16<TY, TX>() + j])), most)));
  }
}
template <int TY, int TX>
FASTSR_NOINLINE void round_tiles(float* lines, ptrdiff_t line, ptrdiff_t second, const Block16& block, const float* scales, V most, int16_t* v,
                                 ptrdiff_t point) {
  FASTSR_NO_UNROLL for (int i = 0; i < block.vectors; i++, v += 2 * W) {
    const float *const at = lines + block.line(i), *const kept = kept_columns<TY, TX>(lines, line) + kept_at<TY>(i, 0);
    if (block.ends[i]) {
      round_rows<TY, TX>(at, line, second, block.ending[i], kept, scales, most, v, point);
    } else {
      round_rows<TY, TX>(at, line, second, nullptr, kept, scales, most, v, point);
    }
  }
}

// The rows of a run's group from its first pixel.
template <int TY, int TX, class E>
struct Lines16 {
  const E* in[TY + 2];
  Lines16(const Winograd16Rows& r, int group, int x, ptrdiff_t channel) {
    for (int i = 0; i < TY + 2; i++) in[i] = static_cast<const E*>(r.in[TY * group + i]) + channel + static_cast<ptrdiff_t>(TX) * x;
  }
};

// The lines of channels c and c + 1 of a block.
template <int TY, int TX, class E>
FASTSR_INLINE void transform_lines(const Winograd16Rows& r, const Layout16& l, const Block16& block, int c, float* lines) {
  const ptrdiff_t second = l.lines / 2;
  const bool two = c + 1 < r.cin;
  for (int i = 0; i < block.runs; i++) {
    const Run16& run = block.run[i];
    const ptrdiff_t channel = (r.in_type == Element::kPairs ? c / 2 : c) * r.in_stride;
    transform_run<TY, TX>(Lines16<TY, TX, E>(r, run.group, run.x, channel).in, run.tiles, second, lines + run.line, l.line);
    if (r.in_type != Element::kPairs && two)
      transform_run<TY, TX>(Lines16<TY, TX, E>(r, run.group, run.x, channel + r.in_stride).in, run.tiles, second, lines + second + run.line, l.line);
    if (!l.kept || i + 1 == block.runs) continue;
    keep_columns<TY, TX>(lines, l.line, run);
    if (two) keep_columns<TY, TX>(lines + second, l.line, run);
  }
}

template <int TY, int TX, class E>
void winograd16_input(const Winograd16Rows& r, const Layout16& l, const Block16& block, float* lines, int16_t* v, Fetch16& fetch) {
  const float* scales = static_cast<const float*>(r.weights);
  const V most = set1(scales[0]);
  scales += 16;
  const ptrdiff_t second = l.lines / 2;
  for (int c = 0; c < r.cin; c += 2, v += 2 * W * block.vectors, scales += 2 * points16<TY, TX>()) {
    for (int i = 0; i < 2 * block.runs; i++) fetch.step();
    transform_lines<TY, TX, E>(r, l, block, c, lines);
    const ptrdiff_t other = c + 1 < r.cin ? second : 0;
    round_tiles<TY, TX>(lines, l.line, other, block, scales, most, v, l.v);
  }
}

// Adds the transformed inputs of a block to `range`.
template <int TY, int TX, class E>
void measure_block(const Winograd16Rows& r, const Layout16& l, const Block16& block, float* lines, Winograd16Range& range) {
  constexpr int kPoints = TX + 2;
  float wanted[kDotVectors][W] = {};
  for (int v = 0; v < block.vectors; v++)
    for (int i = block.pieces[v]; i < block.pieces[v + 1]; i++)
      for (int j = 0; j < block.piece[i].tiles; j++) wanted[v][block.piece[i].slot + j] = 1;
  for (int c = 0; c < r.cin; c++) {
    if (c % 2 == 0) transform_lines<TY, TX, E>(r, l, block, c, lines);
    for (int i = 0; i < TY + 2; i++) {
      V most[kPoints], squares[kPoints], t[kPoints];
      for (int j = 0; j < kPoints; j++) most[j] = squares[j] = set1(0.0f);
      for (int v = 0; v < block.vectors; v++) {
        const M here = lt(set1(0.0f), load(wanted[v]));
        float* const of = lines + c % 2 * (l.lines / 2);
        transform_rows<TX>(of + block.line(v) + i * TX * l.line, l.line, block.ends[v] ? block.ending[v] : nullptr,
                          kept_columns<TY, TX>(of, l.line) + kept_at<TY>(v, i), t);
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
