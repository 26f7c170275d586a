// Groups of four output rows of a 3x3 convolution (stride 1, dilation 1) by Winograd's F(4x4, 3x3): 36 multiply-adds for the sixteen results of a tile
// of 4x4 instead of 144.
//   V[p] = (B^T d B)[p]    6x6 points p, from the 6x6 pixels under a tile; a vector holds the same point of neighbouring tiles of a group of rows
//   M[p] = U[p] V[p]       sums over input channels, conv's register blocks with one tap, for each point; U = G w G^T
//   y    = A^T M A + bias, then activation, residual and store as in conv
// The transforms are winograd.h's, first down the columns, of whole vectors of pixels, then along the rows, of every fourth pixel; the output's in the
// same order.
//
// Its points are the best here too. Errors as there, 64 -> 64 channels (the direct sum: RMS 7.3, worst 59):
//   0, +-1, +-2       RMS 29.5   worst 336        0, +-1, +-1/2     RMS 27.9   worst 444
//   0, +-5/8, +-3/2   RMS 12.7   worst 84         0, +-1/2, +-3/2   RMS 16.4   worst 185
// On inputs of one sign RMS 13.5 (the direct sum: 11.1).
//
// The tiles of a call, group after group, are cut into blocks whose V and M stay in the second cache level. A block may begin and end anywhere in a group;
// the tiles that it has of one group are a segment. Within a channel segments lie side by side, so narrow pictures fill vectors too. Whole vectors are
// computed: behind a segment's end they spill into the place of the next segment, or of the next channel, whose own values come later.
//
// Every element is one fixed sequence of operations, whatever block and segment it falls into and whichever rows are wanted. A result depends on all
// 6x6 pixels under its tile, through rounding, and on NaN and infinities in any of them.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "conv.h"
#include "kernels.h"
#include "winograd.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kTile = kWinogradRows, kTilePoints = kPoints * kPoints;
constexpr int kTileFloats = 90000;  // of V and M together, unless kTilesLeast tiles take more
constexpr int kTilesLeast = 32;     // or the tiles of a register block

size_t winograd2d_point_floats(int cout, int cin) { return (conv_pack_size(cout, cin, 1) + 15) / 16 * 16; }

size_t winograd2d_pack_size(int cout, int cin) { return kTilePoints * winograd2d_point_floats(cout, cin); }

void winograd2d_pack(float* packed, const float* w, int cout, int cin) {
  constexpr WinogradFilter g;
  const ChannelBlocks blocks = channel_blocks(cout);
  const size_t point = winograd2d_point_floats(cout, cin);
  for (int b = 0, k0 = 0; b < blocks.count; b++) {  // in conv_pack's order
    const int kb = b < blocks.larger ? blocks.size : blocks.size - 1;
    for (int c = 0; c < cin; c++)
      for (int k = 0; k < kb; k++, packed++) {
        const float* taps = w + (static_cast<size_t>(k0 + k) * cin + c) * 9;
        double columns[kPoints][3];
        for (int p = 0; p < kPoints; p++)
          for (int x = 0; x < 3; x++) columns[p][x] = g.at[p][0] * taps[x] + g.at[p][1] * taps[3 + x] + g.at[p][2] * taps[6 + x];
        for (int p = 0; p < kPoints; p++)
          for (int q = 0; q < kPoints; q++)
            packed[(p * kPoints + q) * point] =
                static_cast<float>(g.at[q][0] * columns[p][0] + g.at[q][1] * columns[p][1] + g.at[q][2] * columns[p][2]);
      }
    k0 += kb;
  }
}

struct TileBlocks {
  int in_row, lines, tiles;  // tiles of a group of rows; lines of the input; tiles of all groups
  int vectors, count;        // of all tiles; blocks
  ptrdiff_t stride, point;   // floats from channel to channel and from point to point of V and M
  int begin(int i) const {   // the first tile of block i
    const int t = static_cast<int>(static_cast<int64_t>(vectors) * i / count) * W;
    return t < tiles ? t : tiles;
  }
};

FASTSR_INLINE TileBlocks tile_blocks(int cin, int cout, int width, int rows) {
  TileBlocks b;
  const int groups = (rows + kTile - 1) / kTile, channels = cin > cout ? cin : cout, register_block = kConvVectors[channel_blocks(cout).size];
  b.in_row = (width + kTile - 1) / kTile;
  b.lines = groups * kTile + 2;
  b.tiles = b.in_row * groups;
  b.vectors = (b.tiles + W - 1) / W;
  const int fits = static_cast<int>(kTileFloats / (static_cast<int64_t>(kTilePoints + 1) * W * channels));
  const int least = register_block < kTilesLeast / W ? register_block : kTilesLeast / W;
  const int limit = fits > register_block ? fits / register_block * register_block : fits > least ? fits : least;
  b.count = (b.vectors + limit - 1) / limit;
  if (b.count > 1 && b.count > b.vectors / 2) b.count = b.vectors / 2;  // single vectors are slow: rather three than two and one
  const int most = limit > 3 ? limit : 3;
  b.stride = static_cast<ptrdiff_t>(b.vectors < most ? b.vectors : most) * W;  // grows with the vectors, unlike the largest block
  b.point = (b.stride * channels + W + 15) / 32 * 32 + 16;  // the same place of all points in different sets of the first cache level
  return b;
}

// M of a point lies in the place of V of the point before it, so there is one place more than points.
size_t winograd2d_scratch(int cin, int cout, int width, int rows) {
  return static_cast<size_t>((kTilePoints + 1) * tile_blocks(cin, cout, width, rows).point + 16);
}

// The segments of n tiles from tile t0.
struct Segments {
  int in_row, group, x, tiles, done, n;  // tiles of a group of rows; the segment's group, first tile there and tiles; tiles before it, of all segments
  Segments(const TileBlocks& b, int t0, int n_) : in_row(b.in_row), group(t0 / b.in_row), x(t0 % b.in_row), done(0), n(n_) { measure(); }
  void measure() { tiles = n - done < in_row - x ? n - done : in_row - x; }
  bool valid() const { return done < n; }
  void next() {
    done += tiles;
    group++;
    x = 0;
    measure();
  }
  int count() const { return n > 0 ? (x + n - 1) / in_row + 1 : 0; }
};

// Prefetches the pixels under the tiles of `segments`, a piece of a row at a time: for each channel the segments, for each segment the lines of its group.
struct Prefetch {
  const float* const* lines;
  int n_lines, in_group;  // pointers in `lines`; how many lines belong to a group
  ptrdiff_t stride;
  int channels, channel, line;
  Segments first, at;
  Prefetch(const float* const* lines_, int n_lines_, int in_group_, ptrdiff_t stride_, int channels_, const Segments& segments)
      : lines(lines_), n_lines(n_lines_), in_group(in_group_), stride(stride_), channels(lines && segments.valid() ? channels_ : 0), channel(0), line(0),
        first(segments), at(segments) {}
  int steps() const { return channels * first.count() * in_group; }
  bool step() {
    if (channel == channels) return false;
    const int i = at.group * kTile + line;
    if (i < n_lines) {
      const float* const from = lines[i] + channel * stride + at.x * kTile;
      const float* const last = from + at.tiles * kTile + 1;
      for (const float* p = from; p < last; p += 16) FASTSR_PREFETCH(p);
      FASTSR_PREFETCH(last);
    }
    if (++line == in_group) {
      line = 0;
      at.next();
      if (!at.valid()) {
        at = first;
        channel++;
      }
    }
    return true;
  }
};

// V of `vectors` vectors of tiles, one channel: their first pixels at lines[i] + from. next: whether there is a tile behind them.
FASTSR_INLINE void winograd2d_input_vectors(const float* const* lines, ptrdiff_t from, float* to, ptrdiff_t point, int vectors, bool next) {
  alignas(64) float behind[kPoints][W];  // the transform down the columns of the pixels behind the vector at work, of which the first two count
  const float* line[kPoints];
  FASTSR_UNROLL for (int i = 0; i < kPoints; i++) {
    line[i] = lines[i] + from + vectors * kTile * W;
    store(behind[i], set1(0.0f));
  }
  V d[kPoints], t[kPoints];
  if (next) {
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load(line[i]);
    winograd_bt(d, t);
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) store(behind[i], t[i]);
  }
  to += vectors * W;
  for (; vectors > 0; vectors--) {
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) line[i] -= kTile * W;
    V columns[kPoints][kTile];
    FASTSR_UNROLL for (int j = 0; j < kTile; j++) {
      FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load_once(line[i] + j * W);
      winograd_bt(d, t);
      FASTSR_UNROLL for (int i = 0; i < kPoints; i++) columns[i][j] = t[i];
    }
    to -= W;
    float* row = to;
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) {
      const float next0 = behind[i][0], next1 = behind[i][1];
      store(behind[i], columns[i][0]);
      deinterleave4(columns[i]);
      FASTSR_UNROLL for (int j = 0; j < kTile; j++) d[j] = columns[i][j];
      d[4] = push(d[0], next0);
      d[5] = push(d[1], next1);
      winograd_bt(d, t);
      FASTSR_UNROLL for (int j = 0; j < kPoints; j++) store(row + j * point, t[j]);
      row += kPoints * point;
      FASTSR_OPAQUE("r", row);  // or 36 addresses are kept in memory
    }
  }
}

// V of a block. far: its pixels have not been prefetched.
FASTSR_NOINLINE void winograd2d_input(const WinogradRows& r, const TileBlocks& b, float* v, const Segments& segments, bool far) {
  Prefetch prefetch(r.in, b.lines, kPoints, r.in_stride, far ? r.cin : 0, segments);
  const int lines = segments.count() * kPoints;
  for (int i = 0; i < 2 * lines; i++) prefetch.step();
  for (int c = 0; c < r.cin; c++) {
    for (int i = 0; i < lines; i++) prefetch.step();
    for (Segments s = segments; s.valid(); s.next())
      winograd2d_input_vectors(r.in + s.group * kTile, c * r.in_stride + s.x * kTile, v + c * b.stride + s.done, b.point, (s.tiles + W - 1) / W,
                               s.tiles % W == 0);
  }
}

// M of a block of n tiles. After each register block some pieces of what comes next are prefetched.
FASTSR_NOINLINE void winograd2d_products(const WinogradRows& r, const TileBlocks& b, float* m, const float* v, int n, Prefetch* const (&prefetch)[3]) {
  static constexpr ConvBlocks<1> kBlocks;
  const ChannelBlocks channels = channel_blocks(r.cout);
  const size_t point_weights = winograd2d_point_floats(r.cout, r.cin);
  const int vectors = (n + W - 1) / W, most = kConvVectors[channels.size], n_x = (vectors + most - 1) / most;
  const int calls = kTilePoints * n_x * channels.count;
  const int steps = (prefetch[0]->steps() + prefetch[1]->steps() + prefetch[2]->steps() + calls - 1) / calls;
  ConvRow product{};
  product.in_stride = product.out_stride = b.stride;
  product.n_taps = 1;
  product.cin = r.cin;
  product.cout = r.cout;
  product.width = n;
  for (int p = 0; p < kTilePoints; p++, v += b.point, m += b.point) {
    product.taps = &v;
    product.out = m;
    for (int i = 0, v0 = 0; i < n_x; i++) {
      const int v1 = vectors * (i + 1) / n_x;
      const float* w = r.weights + p * point_weights;
      for (int j = 0, k = 0; j < channels.count; j++) {
        const int kb = j < channels.larger ? channels.size : channels.size - 1;
        kBlocks.block[kb][v1 - v0](product, w, k, v0 * W);
        w += kb * r.cin;
        k += kb;
        for (int s = 0; s < steps && (prefetch[0]->step() || prefetch[1]->step() || prefetch[2]->step()); s++) {
        }
      }
      v0 = v1;
    }
  }
}

// One vector of tiles of output channel k whose first pixel is x; m: its place in the first point's row. rows: where the results go, and how. ALL: all
// four rows are wanted; otherwise the compiler puts everything off until a row is.
template <bool ALL>
FASTSR_INLINE void winograd2d_output_vector(const ConvRow* rows, int n_rows, const float* m, ptrdiff_t point, V bias, int k, int x) {
  V lines[kTile][kPoints];
  FASTSR_UNROLL for (int j = 0; j < kPoints; j++) {
    V p[kPoints], t[kTile];
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) p[i] = load_once(m + i * (kPoints * point));
    m += point;
    FASTSR_OPAQUE("r", m);
    winograd_at(p, t);
    FASTSR_UNROLL for (int i = 0; i < kTile; i++) lines[i][j] = t[i];
  }
  FASTSR_UNROLL for (int i = 0; i < kTile; i++) {
    if (ALL || i < n_rows) {
      V y[1][kTile];
      winograd_at(lines[i], bias, y[0]);
      interleave4(y[0]);
      conv_store<1, kTile>(rows[i], y, k, x);
    }
  }
}

// A vector of results that reaches beyond the row: by way of the stack.
FASTSR_NOINLINE void winograd2d_output_end(const WinogradRows& r, const ConvRow* rows, int n_rows, const float* m, ptrdiff_t point, V bias, int k, int x) {
  float results[kTile][kTile * W];
  ConvRow aside[kTile];
  for (int i = 0; i < n_rows; i++) {
    aside[i] = rows[i];
    aside[i].out = results[i];
    aside[i].out_stride = 0;
    if (aside[i].residual) aside[i].residual += k * r.residual_stride + x;
    aside[i].residual_stride = 0;
  }
  winograd2d_output_vector<false>(aside, n_rows, m, point, bias, k, 0);
  for (int i = 0; i < n_rows; i++) std::memcpy(rows[i].out + k * r.out_stride + x, results[i], static_cast<size_t>(r.width - x) * sizeof(float));
}

// The results of a block.
FASTSR_NOINLINE void winograd2d_output(const WinogradRows& r, const TileBlocks& b, const float* m, const Segments& segments) {
  ConvRow rows[kTile];
  for (ConvRow& row : rows) static_cast<ConvCommon&>(row) = r;
  for (Segments s = segments; s.valid(); s.next()) {
    const int first = s.group * kTile, n_rows = r.rows - first < kTile ? r.rows - first : kTile;
    for (int i = 0; i < n_rows; i++) {
      rows[i].out = r.out[first + i];
      rows[i].residual = r.residual ? r.residual[first + i] : nullptr;
    }
    for (int k = 0; k < r.cout; k++) {
      const V bias = set1(r.bias ? r.bias[k] : 0.0f);
      const float* const row = m + k * b.stride + s.done;
      for (int i = 0; i < s.tiles; i += W) {
        const int x = (s.x + i) * kTile;
        if (x + kTile * W > r.width) winograd2d_output_end(r, rows, n_rows, row + i, b.point, bias, k, x);
        else if (n_rows == kTile) winograd2d_output_vector<true>(rows, n_rows, row + i, b.point, bias, k, x);
        else winograd2d_output_vector<false>(rows, n_rows, row + i, b.point, bias, k, x);
      }
    }
  }
}

void winograd2d(const WinogradRows& r) {
  const TileBlocks b = tile_blocks(r.cin, r.cout, r.width, r.rows);
  float* const m = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  float* const v = m + b.point;
  for (int i = 0; i < b.count; i++) {
    const int t0 = b.begin(i), t1 = b.begin(i + 1), t2 = i + 1 < b.count ? b.begin(i + 2) : t1;
    const Segments segments(b, t0, t1 - t0);
    winograd2d_input(r, b, v, segments, i == 0);
    Prefetch next(r.in, b.lines, kPoints, r.in_stride, r.cin, Segments(b, t1, t2 - t1));
    Prefetch residual(r.residual, r.rows, kTile, r.residual_stride, r.cout, segments), out(r.out, r.rows, kTile, r.out_stride, r.cout, segments);
    Prefetch* const prefetch[] = {&next, &residual, &out};
    winograd2d_products(r, b, m, v, t1 - t0, prefetch);
    winograd2d_output(r, b, m, segments);
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
