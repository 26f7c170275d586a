// Groups of four output rows of a 3x3 convolution (stride 1, dilation 1) by Winograd's F(4x4, 3x3): 36 multiply-adds for the sixteen results of a tile
// of 4x4 instead of 144.
//   V[p] = (B^T d B)[p]    6x6 points p, from the 6x6 pixels under a tile; a vector holds the same point of neighbouring tiles of a group of rows
//   M[p] = U[p] V[p]       sums over input channels, conv's register blocks with one tap, for each point; U = G w G^T
//   y    = A^T M A + bias, then activation, residual and store as in conv
// The transforms are those of winograd_transform.h, first down the columns, of whole vectors of pixels, then along the rows, of every fourth pixel; the
// output's in the same order.
//
// Its points are the best here too. Errors as there, 64 -> 64 channels (the direct sum: RMS 7.3, worst 59):
//   0, +-1, +-2       RMS 29.5   worst 336        0, +-1, +-1/2     RMS 27.9   worst 444
//   0, +-5/8, +-3/2   RMS 12.7   worst 84         0, +-1/2, +-3/2   RMS 16.4   worst 185
// On inputs of one sign RMS 13.5 (the direct sum: 11.1).
//
// A vector of tiles is made of four parts, each W pixels of a group of rows. A row's last part may reach beyond its end. The parts of a call, group after
// group, make its vectors, so narrow pictures fill them too: a vector may be mixed of parts of several groups. The vectors are cut into blocks whose V and
// M stay in the second cache level. The parts that a block has of one group are a segment.
//
// Every element is one fixed sequence of operations, whatever block and segment it falls into and whichever rows are wanted. A result depends on all
// 6x6 pixels under its tile, through rounding, and on NaN and infinities in any of them.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "blocks.h"
#include "conv.h"
#include "kernels.h"
#include "winograd_transform.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kTile = kWinogradRows, kTilePoints = kPoints * kPoints;
constexpr int kTileFloats = 90000;   // of V and M together, unless a register block takes more
constexpr int kNearFloats = 240000;  // of V, M and the weights of all points: what the second cache level holds
constexpr int kTilesLeast = 32;      // may be fewer than a register block's if only so all that fits

size_t winograd2d_point_floats(int cout, int cin) { return (conv_pack_size(cout, cin, 1) + 15) / 16 * 16; }

size_t winograd2d_pack_size(int cout, int cin) { return kTilePoints * winograd2d_point_floats(cout, cin); }

void winograd2d_pack(float* packed, const float* w, int cout, int cin) {
  constexpr WinogradFilter<3> g;
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
  int in_row, lines, parts;  // parts of a group of rows; lines of the input; parts of all groups
  int vectors, count;        // of all tiles; blocks
  ptrdiff_t stride, point;   // floats from channel to channel and from point to point of V and M
  int begin(int i) const { return static_cast<int>(static_cast<int64_t>(vectors) * i / count); }  // the first vector of block i
};

FASTSR_INLINE TileBlocks tile_blocks(int cin, int cout, int width, int rows) {
  TileBlocks b;
  const int groups = (rows + kTile - 1) / kTile, channels = cin > cout ? cin : cout, register_block = kConvVectors[channel_blocks(cout).size];
  b.in_row = (width + W - 1) / W;
  b.lines = groups * kTile + 2;
  b.parts = b.in_row * groups;
  b.vectors = (b.parts + kTile - 1) / kTile;
  const int fits = static_cast<int>(kTileFloats / (static_cast<int64_t>(kTilePoints + 1) * W * channels));
  const int64_t near = (kNearFloats - kTilePoints * static_cast<int64_t>(cin) * cout) / (static_cast<int64_t>(kTilePoints + 1) * W * channels);
  const int least = near < register_block && near >= kTilesLeast / W && register_block > kTilesLeast / W ? kTilesLeast / W : register_block;
  const int limit = fits > register_block ? fits / register_block * register_block : fits > least ? fits : least;
  b.count = (b.vectors + limit - 1) / limit;
  if (b.count > 1 && b.count > b.vectors / 2) b.count = b.vectors / 2;  // single vectors are slow: rather three than two and one
  const int most = limit > 3 ? limit : 3;
  b.stride = static_cast<ptrdiff_t>(b.vectors < most ? b.vectors : most) * W;  // grows with the vectors, unlike the largest block
  b.point = (b.stride * channels + 15) / 32 * 32 + 16;  // the same place of all points in different sets of the first cache level
  return b;
}

// M of a point lies in the place of V of the point before it, so there is one place more than points.
size_t winograd2d_scratch(int cin, int cout, int width, int rows) {
  return static_cast<size_t>((kTilePoints + 1) * tile_blocks(cin, cout, width, rows).point + 16);
}

// The segments of vectors v0 .. v1 - 1.
struct Segments {
  int in_row, group, x, parts, done, n;  // parts of a group of rows; the segment's group, first part there and parts; parts before it, of all segments
  Segments(const TileBlocks& b, int v0, int v1)
      : in_row(b.in_row), group(v0 * kTile / in_row), x(v0 * kTile % in_row), done(0), n((v1 * kTile < b.parts ? v1 * kTile : b.parts) - v0 * kTile) {
    measure();
  }
  void measure() { parts = n - done < in_row - x ? n - done : in_row - x; }
  bool valid() const { return done < n; }
  void next() {
    done += parts;
    group++;
    x = 0;
    measure();
  }
  int count() const { return n > 0 ? (x + n - 1) / in_row + 1 : 0; }
  int first() const { return (done + kTile - 1) / kTile; }  // the vectors that are parts of this segment alone: first() .. end() - 1
  int end() const { return (done + parts) / kTile; }
  bool mixed() const { return (done + parts) % kTile != 0 && end() * kTile >= done; }  // vector end() is mixed and begins here
  int part_of(int vector) const { return x + vector * kTile - done; }
};

// The parts of a mixed vector. Those behind the last one of all are the last one again.
struct Mixed {
  int group[kTile], x[kTile], count;
  Mixed(const Segments& s) : count(s.n - s.end() * kTile < kTile ? s.n - s.end() * kTile : kTile) {
    group[0] = s.group;
    x[0] = s.part_of(s.end());
    for (int j = 1; j < kTile; j++) {
      const bool more = j < count, row = more && x[j - 1] + 1 == s.in_row;
      group[j] = group[j - 1] + row;
      x[j] = row ? 0 : x[j - 1] + more;
    }
  }
};

// Prefetches the pixels of `segments`, a piece of a row at a time: for each channel the segments, for each segment the lines of its group.
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
      const float* const from = lines[i] + channel * stride + at.x * W;
      const float* const last = from + at.parts * W + 1;
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

// The points of row i of a vector of tiles, whose pixels are `columns`, already transformed along y. d: of the tiles' pixels the last two.
FASTSR_INLINE void winograd2d_points(const V (&columns)[kTile], V d4, V d5, float* to, ptrdiff_t point) {
  const V d[kPoints] = {columns[0], columns[1], columns[2], columns[3], d4, d5};
  V t[kPoints];
  winograd_bt(d, t);
  FASTSR_UNROLL for (int j = 0; j < kPoints; j++) store(to + j * point, t[j]);
}

// V of `vectors` vectors of tiles of a segment, one channel: their first pixels at lines[i] + from.
FASTSR_INLINE void winograd2d_input_vectors(const float* const* lines, ptrdiff_t from, float* to, ptrdiff_t point, int vectors) {
  alignas(64) float behind[kPoints][W];  // the transform down the columns of the pixels behind the vector at work, of which the first two count
  const float* line[kPoints];
  V d[kPoints], t[kPoints];
  FASTSR_UNROLL for (int i = 0; i < kPoints; i++) {
    line[i] = lines[i] + from + vectors * kTile * W;
    d[i] = load(line[i]);
  }
  winograd_bt(d, t);
  FASTSR_UNROLL for (int i = 0; i < kPoints; i++) store(behind[i], t[i]);
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
      winograd2d_points(columns[i], push(columns[i][0], next0), push(columns[i][1], next1), row, point);
      row += kPoints * point;
      FASTSR_OPAQUE("r", row);  // or 36 addresses are kept in memory
    }
  }
}

// V of a mixed vector, one channel at `channel` floats from the lines' beginnings.
FASTSR_NOINLINE void winograd2d_input_mixed(const float* const* lines, const Mixed& mixed, ptrdiff_t channel, float* to, ptrdiff_t point) {
  alignas(64) float behind[kTile][kPoints][W];  // as above, of parts where the next one is not a neighbour
  bool ends[kTile];
  V columns[kPoints][kTile];
  FASTSR_UNROLL for (int j = 0; j < kTile; j++) {
    V d[kPoints], t[kPoints];
    const float* const* const line = lines + mixed.group[j] * kTile;
    const ptrdiff_t from = channel + static_cast<ptrdiff_t>(mixed.x[j]) * W;
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load(line[i] + from);
    winograd_bt(d, t);
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) columns[i][j] = t[i];
    ends[j] = j + 1 == kTile || mixed.x[j + 1] != mixed.x[j] + 1;
    if (!ends[j]) continue;
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) d[i] = load(line[i] + from + W);
    winograd_bt(d, t);
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) store(behind[j][i], t[i]);
  }
  float lanes[W];
  for (int i = 0; i < W; i++) lanes[i] = static_cast<float>(i);
  const V lane = load(lanes);
  FASTSR_NO_UNROLL for (int i = 0; i < kPoints; i++, to += kPoints * point) {
    deinterleave4(columns[i]);
    V d4 = push(columns[i][0], behind[kTile - 1][i][0]), d5 = push(columns[i][1], behind[kTile - 1][i][1]);
    FASTSR_UNROLL for (int j = 0; j + 1 < kTile; j++) {
      if (!ends[j]) continue;
      const M last = lt(abs(sub(lane, set1(static_cast<float>((j + 1) * (W / kTile) - 1)))), set1(0.5f));
      d4 = select(last, set1(behind[j][i][0]), d4);
      d5 = select(last, set1(behind[j][i][1]), d5);
    }
    winograd2d_points(columns[i], d4, d5, to, point);
  }
}

// V of a block. far: its pixels have not been prefetched.
FASTSR_NOINLINE void winograd2d_input(const WinogradRows& r, const TileBlocks& b, float* v, const Segments& segments, bool far) {
  Prefetch prefetch(r.in, b.lines, kPoints, r.in_stride, far ? r.cin : 0, segments);
  const int lines = segments.count() * kPoints;
  for (int i = 0; i < 2 * lines; i++) prefetch.step();
  for (int c = 0; c < r.cin; c++, v += b.stride) {
    for (int i = 0; i < lines; i++) prefetch.step();
    const ptrdiff_t channel = c * r.in_stride;
    for (Segments s = segments; s.valid(); s.next()) {
      const int first = s.first(), vectors = s.end() - first;
      if (vectors > 0) winograd2d_input_vectors(r.in + s.group * kTile, channel + s.part_of(first) * W, v + first * W, b.point, vectors);
      if (s.mixed()) winograd2d_input_mixed(r.in, Mixed(s), channel, v + s.end() * W, b.point);
    }
  }
}

// One point of KB output channels and NV vectors of tiles. ahead: weights that are wanted soon.
template <int KB, int NV>
FASTSR_NOINLINE void point_block(const float* v, const float* w, int cin, float* m, ptrdiff_t stride, const float* ahead) {
  V sum[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int i = 0; i < NV; i++) sum[k][i] = set1(0.0f);
  }
  for (; cin > 0; cin--, v += stride, w += KB, ahead += KB) {
    FASTSR_PREFETCH(ahead);
    V in[NV];
    FASTSR_UNROLL for (int i = 0; i < NV; i++) in[i] = load(v + i * W);
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      const V weight = set1(w[k]);
      FASTSR_UNROLL for (int i = 0; i < NV; i++) sum[k][i] = fma(weight, in[i], sum[k][i]);
    }
  }
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int i = 0; i < NV; i++) store(m + k * stride + i * W, sum[k][i]);
  }
}

struct PointBlocks {
  using Block = void (*)(const float*, const float*, int, float*, ptrdiff_t, const float*);
  static constexpr int kChannels = kConvChannels, kVectorsMost = ConvBlocks<0>::kVectorsMost;
  static constexpr int vectors(int kb) { return kConvVectors[kb]; }
  template <int KB, int NV>
  static constexpr Block make() { return point_block<KB, NV>; }
};

// M of a block of `vectors` vectors. While a point is at work the next one's weights are fetched, evenly: in one go they would wait for the memory. After each
// register block some pieces of what comes next are prefetched.
FASTSR_NOINLINE void winograd2d_products(const WinogradRows& r, const TileBlocks& b, float* m, const float* v, int vectors, Prefetch* const (&prefetch)[3]) {
  static constexpr BlockTable<PointBlocks> kBlocks;
  const ChannelBlocks channels = channel_blocks(r.cout);
  const size_t point_weights = winograd2d_point_floats(r.cout, r.cin);
  const int most = kConvVectors[channels.size], n_x = (vectors + most - 1) / most;
  const int calls = kTilePoints * n_x * channels.count;
  const int steps = (prefetch[0]->steps() + prefetch[1]->steps() + prefetch[2]->steps() + calls - 1) / calls;
  for (int p = 0; p < kTilePoints; p++, v += b.point, m += b.point) {
    const ptrdiff_t next = p + 1 < kTilePoints ? static_cast<ptrdiff_t>(point_weights) : -static_cast<ptrdiff_t>(point_weights) * p;
    for (int i = 0, v0 = 0; i < n_x; i++) {
      const int v1 = vectors * (i + 1) / n_x;
      const float* w = r.weights + p * point_weights;
      for (int j = 0, k = 0; j < channels.count; j++) {
        const int kb = j < channels.larger ? channels.size : channels.size - 1;
        kBlocks.block[kb][v1 - v0](v + v0 * W, w, r.cin, m + k * b.stride + v0 * W, b.stride, w + next);
        w += kb * r.cin;
        k += kb;
        for (int s = 0; s < steps && (prefetch[0]->step() || prefetch[1]->step() || prefetch[2]->step()); s++) {
        }
      }
      v0 = v1;
    }
  }
}

// A^T M of one vector of tiles; m: its place in the first point's row.
FASTSR_INLINE void winograd2d_columns(const float* m, ptrdiff_t point, V (&lines)[kTile][kPoints]) {
  FASTSR_UNROLL for (int j = 0; j < kPoints; j++) {
    V p[kPoints], t[kTile];
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) p[i] = load_once(m + i * (kPoints * point));
    m += point;
    FASTSR_OPAQUE("r", m);
    winograd_at(p, t);
    FASTSR_UNROLL for (int i = 0; i < kTile; i++) lines[i][j] = t[i];
  }
}

// Where the results of a group of rows go, and how.
struct GroupRows {
  ConvRow row[kTile];
  int count;
  GroupRows(const WinogradRows& r, int group) : count(r.rows - group * kTile < kTile ? r.rows - group * kTile : kTile) {
    for (int i = 0; i < count; i++) {
      static_cast<ConvCommon&>(row[i]) = r;
      row[i].out = r.out[group * kTile + i];
      row[i].residual = r.residual ? r.residual[group * kTile + i] : nullptr;
    }
  }
};

// One vector of tiles of output channel k whose first pixel is x. ALL: all four rows are wanted; otherwise the compiler puts everything off until a row is.
template <bool ALL>
FASTSR_INLINE void winograd2d_output_vector(const GroupRows& rows, const float* m, ptrdiff_t point, V bias, int k, int x) {
  V lines[kTile][kPoints];
  winograd2d_columns(m, point, lines);
  FASTSR_UNROLL for (int i = 0; i < kTile; i++) {
    if (ALL || i < rows.count) {
      V y[1][kTile];
      winograd_at(lines[i], bias, y[0]);
      interleave4(y[0]);
      conv_store<1, kTile>(rows.row[i], y, k, x);
    }
  }
}

// A mixed vector, all channels.
FASTSR_NOINLINE void winograd2d_output_mixed(const WinogradRows& r, const TileBlocks& b, const float* m, const Mixed& mixed) {
  const GroupRows rows[kTile] = {{r, mixed.group[0]}, {r, mixed.group[1]}, {r, mixed.group[2]}, {r, mixed.group[3]}};
  for (int k = 0; k < r.cout; k++, m += b.stride) {
    const V bias = set1(r.bias ? r.bias[k] : 0.0f);
    V lines[kTile][kPoints];
    winograd2d_columns(m, b.point, lines);
    FASTSR_NO_UNROLL for (int i = 0; i < kTile; i++) {
      V y[kTile];
      winograd_at(lines[i], bias, y);
      interleave4(y);
      FASTSR_NO_UNROLL for (int j = 0; j < mixed.count; j++) {
        V part[1][1] = {{y[j]}};
        if (i < rows[j].count) conv_store<1, 1>(rows[j].row[i], part, k, mixed.x[j] * W);
      }
    }
  }
}

// The results of a block.
FASTSR_NOINLINE void winograd2d_output(const WinogradRows& r, const TileBlocks& b, const float* m, const Segments& segments) {
  for (Segments s = segments; s.valid(); s.next()) {
    const GroupRows rows(r, s.group);
    const int first = s.first(), end = s.end();
    for (int k = 0; k < r.cout && first < end; k++) {
      const V bias = set1(r.bias ? r.bias[k] : 0.0f);
      const float* const row = m + k * b.stride;
      for (int i = first; i < end; i++) {
        if (rows.count == kTile) winograd2d_output_vector<true>(rows, row + i * W, b.point, bias, k, s.part_of(i) * W);
        else winograd2d_output_vector<false>(rows, row + i * W, b.point, bias, k, s.part_of(i) * W);
      }
    }
    if (s.mixed()) winograd2d_output_mixed(r, b, m + end * W, Mixed(s));
  }
}

void winograd2d(const WinogradRows& r) {
  const TileBlocks b = tile_blocks(r.cin, r.cout, r.width, r.rows);
  float* const m = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  float* const v = m + b.point;
  for (int i = 0; i < b.count; i++) {
    const int v0 = b.begin(i), v1 = b.begin(i + 1), v2 = i + 1 < b.count ? b.begin(i + 2) : v1;
    const Segments segments(b, v0, v1);
    winograd2d_input(r, b, v, segments, i == 0);
    Prefetch next(r.in, b.lines, kPoints, r.in_stride, r.cin, Segments(b, v1, v2));
    Prefetch residual(r.residual, r.rows, kTile, r.residual_stride, r.cout, segments), out(r.out, r.rows, kTile, r.out_stride, r.cout, segments);
    Prefetch* const prefetch[] = {&next, &residual, &out};
    winograd2d_products(r, b, m, v, v1 - v0, prefetch);
    winograd2d_output(r, b, m, segments);
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
