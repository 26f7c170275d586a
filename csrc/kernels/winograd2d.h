// Groups of four output rows of a 3x3 convolution (stride 1, dilation 1) by Winograd's F(4x4, 3x3): 36 multiply-adds for the sixteen results of a tile
// of 4x4 instead of 144.
//   V[p] = (B^T d B)[p]    6x6 points p, from the 6x6 pixels under a tile; a vector holds the same point of neighbouring tiles of a group of rows
//   M[p] = U[p] V[p]       sums over input channels, conv's register blocks with one tap, for each point; U = G w G^T
//   y    = A^T M A + bias, then activation, residual and store as in conv
// The transforms are winograd.h's with its points, first down the columns, of whole vectors of pixels, then along the rows, of every fourth pixel.
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
constexpr int kTileFloats = 120000;  // of V and M together, unless one register block takes more

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
  int in_row, vectors, count;  // tiles of a group of rows; vectors of all tiles; blocks
  ptrdiff_t stride, point;     // floats from channel to channel and from point to point of V and M
};

FASTSR_INLINE TileBlocks tile_blocks(int cin, int cout, int width, int rows) {
  TileBlocks b;
  const int channels = cin > cout ? cin : cout, register_block = kConvVectors[channel_blocks(cout).size];
  b.in_row = (width + kTile - 1) / kTile;
  b.vectors = (b.in_row * ((rows + kTile - 1) / kTile) + W - 1) / W;
  const int fits = static_cast<int>(kTileFloats / (static_cast<int64_t>(kTilePoints + 1) * W * channels));
  const int limit = fits > register_block ? fits / register_block * register_block : register_block;
  b.count = (b.vectors + limit - 1) / limit;
  b.stride = static_cast<ptrdiff_t>(b.vectors < limit ? b.vectors : limit) * W;  // grows with the vectors, unlike the largest block
  b.point = (b.stride * channels + W + 15) / 32 * 32 + 16;  // the same place of all points in different sets of the first cache level
  return b;
}

// M of a point lies in the place of V of the point before it, so there is one place more than points.
size_t winograd2d_scratch(int cin, int cout, int width, int rows) {
  return static_cast<size_t>((kTilePoints + 1) * tile_blocks(cin, cout, width, rows).point + 16);
}

// V of `vectors` vectors of tiles, one channel: their first pixels at from + lines[i]. next: whether the tile behind them exists.
FASTSR_INLINE void winograd2d_input_vectors(const float* const* lines, ptrdiff_t from, float* to, ptrdiff_t point, int vectors, bool next) {
  float behind[kPoints][W] = {};  // the column transform of the pixels behind the vector at work
  V d[kPoints], t[kPoints];
  if (next) {
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load(lines[i] + from + vectors * kTile * W);
    winograd_bt(d, t);
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) store(behind[i], t[i]);
  }
  for (int v = vectors - 1; v >= 0; v--) {
    const ptrdiff_t x = from + v * kTile * W;
    V columns[kPoints][4];
    FASTSR_UNROLL for (int j = 0; j < 4; j++) {
      FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load(lines[i] + x + j * W);
      winograd_bt(d, t);
      FASTSR_UNROLL for (int i = 0; i < kPoints; i++) columns[i][j] = t[i];
    }
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) {
      const float next0 = behind[i][0], next1 = behind[i][1];
      store(behind[i], columns[i][0]);
      deinterleave4(columns[i]);
      FASTSR_UNROLL for (int j = 0; j < 4; j++) d[j] = columns[i][j];
      d[4] = push(d[0], next0);
      d[5] = push(d[1], next1);
      winograd_bt(d, t);
      FASTSR_UNROLL for (int j = 0; j < kPoints; j++) store(to + (i * kPoints + j) * point + v * W, t[j]);
    }
  }
}

// V of n tiles from tile t0.
FASTSR_NOINLINE void winograd2d_input(const WinogradRows& r, const TileBlocks& b, float* v, int t0, int n) {
  for (int c = 0; c < r.cin; c++) {
    int group = t0 / b.in_row, x = t0 % b.in_row;
    for (int done = 0; done < n; group++, x = 0) {
      const int tiles = n - done < b.in_row - x ? n - done : b.in_row - x;
      winograd2d_input_vectors(r.in + group * kTile, c * r.in_stride + x * kTile, v + c * b.stride + done, b.point, (tiles + W - 1) / W, tiles % W == 0);
      done += tiles;
    }
  }
}

// One vector of tiles of output channel k whose first pixel is x; m: its place in the first point's row. rows: where the results go, and how.
FASTSR_INLINE void winograd2d_output_vector(const ConvRow* rows, int n_rows, const float* m, ptrdiff_t point, V bias, int k, int x) {
  V columns[kPoints][kTile], y[kTile][1][kTile];
  FASTSR_UNROLL for (int i = 0; i < kPoints; i++) {
    V p[kPoints];
    FASTSR_UNROLL for (int j = 0; j < kPoints; j++) p[j] = load(m + (i * kPoints + j) * point);
    winograd_at(p, set1(0.0f), columns[i]);
  }
  FASTSR_UNROLL for (int j = 0; j < kTile; j++) {
    V p[kPoints], t[kTile];
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) p[i] = columns[i][j];
    winograd_at(p, bias, t);
    FASTSR_UNROLL for (int i = 0; i < kTile; i++) y[i][0][j] = t[i];
  }
  FASTSR_UNROLL for (int i = 0; i < kTile; i++) {
    if (i < n_rows) {
      interleave4(y[i][0]);
      conv_store<1, kTile>(rows[i], y[i], k, x);
    }
  }
}

// The results of n tiles from tile t0.
FASTSR_NOINLINE void winograd2d_output(const WinogradRows& r, const TileBlocks& b, const float* m, int t0, int n) {
  ConvRow rows[kTile];
  for (ConvRow& row : rows) static_cast<ConvCommon&>(row) = r;
  int group = t0 / b.in_row, x = t0 % b.in_row;
  for (int done = 0; done < n; group++, x = 0) {
    const int tiles = n - done < b.in_row - x ? n - done : b.in_row - x;
    const int first = group * kTile, n_rows = r.rows - first < kTile ? r.rows - first : kTile;
    for (int i = 0; i < n_rows; i++) {
      rows[i].out = r.out[first + i];
      rows[i].residual = r.residual ? r.residual[first + i] : nullptr;
    }
    for (int k = 0; k < r.cout; k++) {
      const V bias = set1(r.bias ? r.bias[k] : 0.0f);
      for (int i = 0; i < tiles; i += W) winograd2d_output_vector(rows, n_rows, m + k * b.stride + done + i, b.point, bias, k, (x + i) * kTile);
    }
    done += tiles;
  }
}

void winograd2d(const WinogradRows& r) {
  const TileBlocks b = tile_blocks(r.cin, r.cout, r.width, r.rows);
  const size_t point_weights = winograd2d_point_floats(r.cout, r.cin);
  const int tiles = b.in_row * ((r.rows + kTile - 1) / kTile);
  float* const m = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  float* const v = m + b.point;
  for (int i = 0, v0 = 0; i < b.count; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(b.vectors) * (i + 1) / b.count), t0 = v0 * W;
    const int n = (v1 * W < tiles ? v1 * W : tiles) - t0;
    winograd2d_input(r, b, v, t0, n);
    ConvRow product{};
    product.in_stride = b.stride;
    product.n_taps = 1;
    product.cin = r.cin;
    product.cout = r.cout;
    product.width = n;
    product.out_stride = b.stride;
    for (int p = 0; p < kTilePoints; p++) {
      const float* const tap = v + p * b.point;
      product.taps = &tap;
      product.weights = r.weights + p * point_weights;
      product.out = m + p * b.point;
      conv(product);
    }
    winograd2d_output(r, b, m, t0, n);
    v0 = v1;
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
