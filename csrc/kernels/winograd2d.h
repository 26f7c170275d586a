// Groups of T output rows of a 3x3 convolution (stride 1, dilation 1) by Winograd's F(T x T, 3x3), T = 4 or 6: with P = T + 2, P^2 multiply-adds for the T^2
// results of a tile instead of 9 T^2.
//   V[p] = (B^T d B)[p]    PxP points p, from the PxP pixels under a tile; a vector holds the same point of neighbouring tiles of a group of rows
//   M[p] = U[p] V[p]       sums over input channels, conv's register blocks with one tap, for each point; U = G w G^T
//   y    = A^T M A + bias, then activation, residual and store as in conv
// The transforms are those of winograd_transform.h, first down the columns, of whole vectors of pixels, then along the rows, of every T-th pixel; the
// output's in the same order.
//
// Its points are the best here too. Errors as there, 64 -> 64 channels (the direct sum: RMS 7.3, worst 59):
//   0, +-1, +-2       RMS 29.5   worst 336        0, +-1, +-1/2     RMS 27.9   worst 444
//   0, +-5/8, +-3/2   RMS 12.7   worst 84         0, +-1/2, +-3/2   RMS 16.4   worst 185
// On inputs of one sign RMS 13.5 (the direct sum: 11.1). T = 6, the best of a search in sixteenths: 0, +-1/2, +-1, +-2 RMS 55, worst 590; on inputs of one sign
// RMS 31.
//
// winograd2d_tiles.h says how tiles make vectors, blocks and segments.
//
// Every element is one fixed sequence of operations, whatever block and segment it falls into and whichever rows are wanted. A result depends on all
// PxP pixels under its tile, through rounding, and on NaN and infinities in any of them.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "blocks.h"
#include "conv.h"
#include "kernels.h"
#include "winograd2d_tiles.h"
#include "winograd_transform.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

#if !FASTSR_SIX
// Six vectors <-> their elements 6 i .. 6 i + 5.
FASTSR_INLINE void deinterleave6(V (&v)[6]) {
  V a[3], b[3];
  deinterleave3(v[0], v[1], v[2], a[0], a[1], a[2]);
  deinterleave3(v[3], v[4], v[5], b[0], b[1], b[2]);
  FASTSR_UNROLL for (int i = 0; i < 3; i++) deinterleave2(a[i], b[i], v[i], v[i + 3]);
}
FASTSR_INLINE void interleave6(V (&v)[6]) {
  V a[3], b[3];
  FASTSR_UNROLL for (int i = 0; i < 3; i++) interleave2(v[i], v[i + 3], a[i], b[i]);
  interleave3(a[0], a[1], a[2], v[0], v[1], v[2]);
  interleave3(b[0], b[1], b[2], v[3], v[4], v[5]);
}
#endif

template <int T>
FASTSR_INLINE void deinterleave_tiles(V (&v)[T]) {
  if constexpr (T == 4) deinterleave4(v);
  else deinterleave6(v);
}

template <int T>
FASTSR_INLINE void interleave_tiles(V (&v)[T]) {
  if constexpr (T == 4) interleave4(v);
  else interleave6(v);
}

// The points of row i of a vector of tiles, whose pixels are `columns`, already transformed along y. d0, d1: of the pixels behind each tile the first two.
template <int T>
FASTSR_INLINE void winograd2d_points(const V (&columns)[T], V d0, V d1, float* to, ptrdiff_t point) {
  constexpr int P = T + 2;
  V d[P], t[P];
  FASTSR_UNROLL for (int j = 0; j < T; j++) d[j] = columns[j];
  d[T] = d0;
  d[T + 1] = d1;
  winograd_bt<T>(d, t);
  FASTSR_UNROLL for (int j = 0; j < P; j++) store(to + j * point, t[j]);
}

// B^T d of the vectors of pixels at line[i] + at.
template <int T, int P>
FASTSR_INLINE void winograd2d_down(const float* const (&line)[P], ptrdiff_t at, V (&t)[P]) {
  V d[P];
  FASTSR_UNROLL for (int i = 0; i < P; i++) d[i] = load_once(line[i] + at);
  winograd_bt<T>(d, t);
}

// V of `vectors` vectors of tiles of a segment, one channel: their first pixels at lines[i] + from.
template <int T>
FASTSR_INLINE void winograd2d_input_vectors(const float* const* lines, ptrdiff_t from, float* to, ptrdiff_t point, int vectors) {
  constexpr int P = T + 2;
  alignas(64) float behind[P][W];  // the transform down the columns of the pixels behind the vector at work, of which the first two count
  const float* line[P];
  V t[P];
  FASTSR_UNROLL for (int i = 0; i < P; i++) line[i] = lines[i] + from + vectors * T * W;
  winograd2d_down<T>(line, 0, t);
  FASTSR_UNROLL for (int i = 0; i < P; i++) store(behind[i], t[i]);
  to += vectors * W;
  for (; vectors > 0; vectors--) {
    FASTSR_UNROLL for (int i = 0; i < P; i++) line[i] -= T * W;
    V columns[P][T];
    FASTSR_UNROLL for (int j = 0; j < T; j++) {
      winograd2d_down<T>(line, j * W, t);
      FASTSR_UNROLL for (int i = 0; i < P; i++) columns[i][j] = t[i];
    }
    to -= W;
    float* row = to;
    FASTSR_UNROLL for (int i = 0; i < P; i++) {
      const float next0 = behind[i][0], next1 = behind[i][1];
      store(behind[i], columns[i][0]);
      deinterleave_tiles(columns[i]);
      winograd2d_points(columns[i], push(columns[i][0], next0), push(columns[i][1], next1), row, point);
      row += P * point;
      FASTSR_OPAQUE("r", row);  // or the addresses of all points are kept in memory
    }
  }
}

// V of a mixed vector, one channel at `channel` floats from the lines' beginnings.
template <int T>
FASTSR_NOINLINE void winograd2d_input_mixed(const float* const* lines, const Mixed<T>& mixed, ptrdiff_t channel, float* to, ptrdiff_t point) {
  using S = Tiles<T>;
  constexpr int P = T + 2;
  alignas(64) float behind[S::kParts][P][W];  // as above, of parts where the next one is not a neighbour
  bool ends[S::kParts];
  V columns[P][T];
  FASTSR_UNROLL for (int j = 0; j < S::kParts; j++) {
    const float* line[P];
    V t[P];
    FASTSR_UNROLL for (int i = 0; i < P; i++) line[i] = lines[mixed.group[j] * T + i] + channel + static_cast<ptrdiff_t>(mixed.x[j]) * S::kPart;
    FASTSR_UNROLL for (int v = 0; v < S::kPartVectors; v++) {
      winograd2d_down<T>(line, v * W, t);
      FASTSR_UNROLL for (int i = 0; i < P; i++) columns[i][j * S::kPartVectors + v] = t[i];
    }
    ends[j] = j + 1 == S::kParts || mixed.x[j + 1] != mixed.x[j] + 1;
    if (!ends[j]) continue;
    winograd2d_down<T>(line, S::kPart, t);
    FASTSR_UNROLL for (int i = 0; i < P; i++) store(behind[j][i], t[i]);
  }
  float lanes[W];
  for (int i = 0; i < W; i++) lanes[i] = static_cast<float>(i);
  const V lane = load(lanes);
  FASTSR_NO_UNROLL for (int i = 0; i < P; i++, to += P * point) {
    deinterleave_tiles(columns[i]);
    V d0 = push(columns[i][0], behind[S::kParts - 1][i][0]), d1 = push(columns[i][1], behind[S::kParts - 1][i][1]);
    FASTSR_UNROLL for (int j = 0; j + 1 < S::kParts; j++) {
      if (!ends[j]) continue;
      const M last = lt(abs(sub(lane, set1(static_cast<float>((j + 1) * (W / S::kParts) - 1)))), set1(0.5f));
      d0 = select(last, set1(behind[j][i][0]), d0);
      d1 = select(last, set1(behind[j][i][1]), d1);
    }
    winograd2d_points(columns[i], d0, d1, to, point);
  }
}

// V of a block. far: what the channels kAhead further on are made from is fetched, also where the last block's products did so: much was read since.
template <int T>
FASTSR_NOINLINE void winograd2d_input(const WinogradRows& r, const TileBlocks& b, float* v, const Segments<T>& segments, bool far) {
  constexpr int P = T + 2;
  constexpr int kAhead = 6;  // channels
  const auto prefetch = [&](int channel) {
    if (channel >= r.cin) return;
    for (Segments<T> s = segments; s.valid(); s.next())
      for (int i = 0; i < P; i++) {
        const float* p = r.in[s.group * T + i] + channel * r.in_stride + s.x * Tiles<T>::kPart;
        for (const float* const end = p + s.parts * Tiles<T>::kPart + 2; p < end; p += 16) FASTSR_PREFETCH(p);
      }
  };
  for (int c = 0; far && c < kAhead; c++) prefetch(c);
  for (int c = 0; c < r.cin; c++, v += b.stride) {
    if (far) prefetch(c + kAhead);
    const ptrdiff_t channel = c * r.in_stride;
    for (Segments<T> s = segments; s.valid(); s.next()) {
      const int first = s.first(), vectors = s.end() - first;
      if (vectors > 0) winograd2d_input_vectors<T>(r.in + s.group * T, channel + s.part_of(first) * Tiles<T>::kPart, v + first * W, b.point, vectors);
      if (s.mixed()) winograd2d_input_mixed<T>(r.in, Mixed<T>(s, s.end()), channel, v + s.end() * W, b.point);
    }
  }
}

// One point of KB output channels and NV vectors of tiles. ahead: weights that are wanted soon; of `column` one line for each input channel.
template <int KB, int NV>
FASTSR_NOINLINE void point_block(const float* v, const float* w, int cin, float* m, ptrdiff_t stride, const float* ahead, const Column& column) {
  const float* soon = column.at;
  const ptrdiff_t soon_stride = column.stride;
  V sum[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int i = 0; i < NV; i++) sum[k][i] = set1(0.0f);
  }
  for (; cin > 0; cin--, v += stride, w += KB, ahead += KB) {
    FASTSR_PREFETCH(ahead);
    FASTSR_PREFETCH(soon);
    soon += soon_stride;
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
  using Block = void (*)(const float*, const float*, int, float*, ptrdiff_t, const float*, const Column&);
  static constexpr int kChannels = kConvChannels, kVectorsMost = ConvBlocks<0>::kVectorsMost;
  static constexpr int vectors(int kb) { return kConvVectors[kb]; }
  template <int KB, int NV>
  static constexpr Block make() { return point_block<KB, NV>; }
};

// M of a block of `vectors` vectors. While a point is at work the next one's weights are fetched, and some pieces of what comes next, evenly: in one go they
// would wait for the memory.
template <int T>
FASTSR_NOINLINE void winograd2d_products(const WinogradRows& r, const TileBlocks& b, float* m, const float* v, int vectors, Prefetch<T>* const (&prefetch)[3]) {
  static constexpr BlockTable<PointBlocks> kBlocks;
  const ChannelBlocks channels = channel_blocks(r.cout);
  const size_t point_weights = winograd2d_point_floats(r.cout, r.cin);
  const int most = kConvVectors[channels.size], n_x = (vectors + most - 1) / most;
  const int calls = Tiles<T>::kAll * n_x * channels.count;
  const int columns = (prefetch[0]->columns() + prefetch[1]->columns() + prefetch[2]->columns() + calls - 1) / calls;
  int which = 0;
  for (int p = 0; p < Tiles<T>::kAll; p++, v += b.point, m += b.point) {
    const ptrdiff_t next = p + 1 < Tiles<T>::kAll ? static_cast<ptrdiff_t>(point_weights) : -static_cast<ptrdiff_t>(point_weights) * p;
    for (int i = 0, v0 = 0; i < n_x; i++) {
      const int v1 = vectors * (i + 1) / n_x;
      const float* w = r.weights + p * point_weights;
      for (int j = 0, k = 0; j < channels.count; j++) {
        const int kb = j < channels.larger ? channels.size : channels.size - 1;
        Column column{w, 0, 0};
        for (int n = columns; n > 0 && which < 3; n--) {
          while (which < 3 && !prefetch[which]->next()) which++;
          if (which == 3) break;
          const Column& one = prefetch[which]->column;
          if (n == 1 && one.count >= r.cin) column = one;
          one.prefetch(n == 1 && one.count >= r.cin ? r.cin : 0);
        }
        kBlocks.block[kb][v1 - v0](v + v0 * W, w, r.cin, m + k * b.stride + v0 * W, b.stride, w + next, column);
        w += kb * r.cin;
        k += kb;
      }
      v0 = v1;
    }
  }
}

// A^T M of one vector of tiles; m: its place in the first point's row.
template <int T, int P>
FASTSR_INLINE void winograd2d_columns(const float* m, ptrdiff_t point, V (&lines)[T][P]) {
  FASTSR_UNROLL for (int j = 0; j < P; j++) {
    V p[P], t[T];
    FASTSR_UNROLL for (int i = 0; i < P; i++) p[i] = load_once(m + i * (P * point));
    m += point;
    FASTSR_OPAQUE("r", m);
    winograd_at(p, t);
    FASTSR_UNROLL for (int i = 0; i < T; i++) lines[i][j] = t[i];
  }
}

// Where the results of a group of rows go, and how.
template <int T>
struct GroupRows {
  ConvRow row[T];
  int count;
  GroupRows(const WinogradRows& r, int group) { set(r, group); }
  GroupRows() {}
  void set(const WinogradRows& r, int group) {
    count = r.rows - group * T < T ? r.rows - group * T : T;
    for (int i = 0; i < count; i++) {
      static_cast<ConvCommon&>(row[i]) = r;
      row[i].out = r.out[group * T + i];
      row[i].residual = r.residual ? r.residual[group * T + i] : nullptr;
    }
  }
};

// One vector of tiles of output channel k whose first pixel is x. ALL: all rows are wanted; otherwise the compiler puts everything off until a row is.
template <int T, bool ALL>
FASTSR_INLINE void winograd2d_output_vector(const GroupRows<T>& rows, const float* m, ptrdiff_t point, V bias, int k, int x) {
  V lines[T][T + 2];
  winograd2d_columns(m, point, lines);
  FASTSR_UNROLL for (int i = 0; i < T; i++) {
    if (ALL || i < rows.count) {
      V y[1][T];
      winograd_at(lines[i], bias, y[0]);
      interleave_tiles(y[0]);
      conv_store<1, T>(rows.row[i], y, k, x);
    }
  }
}

// A mixed vector, or one that reaches beyond the rows' ends, all channels.
template <int T>
FASTSR_NOINLINE void winograd2d_output_mixed(const WinogradRows& r, const TileBlocks& b, const float* m, const Mixed<T>& mixed) {
  using S = Tiles<T>;
  GroupRows<T> rows[S::kParts];
  for (int j = 0; j < mixed.count; j++) rows[j].set(r, mixed.group[j]);
  for (int k = 0; k < r.cout; k++, m += b.stride) {
    const V bias = set1(r.bias ? r.bias[k] : 0.0f);
    V lines[T][T + 2];
    winograd2d_columns(m, b.point, lines);
    FASTSR_NO_UNROLL for (int i = 0; i < T; i++) {
      V y[T];
      winograd_at(lines[i], bias, y);
      interleave_tiles(y);
      FASTSR_NO_UNROLL for (int j = 0; j < mixed.count * S::kPartVectors; j++) {
        V vector[1][1] = {{y[j]}};
        const int part = j / S::kPartVectors, x = mixed.x[part] * S::kPart + j % S::kPartVectors * W;
        if (i < rows[part].count && x < r.width) conv_store<1, 1>(rows[part].row[i], vector, k, x);
      }
    }
  }
}

// The results of a block.
template <int T>
FASTSR_NOINLINE void winograd2d_output(const WinogradRows& r, const TileBlocks& b, const float* m, const Segments<T>& segments) {
  using S = Tiles<T>;
  for (Segments<T> s = segments; s.valid(); s.next()) {
    const GroupRows<T> rows(r, s.group);
    const int first = s.first(), end = s.end();
    const bool beyond = end > first && s.part_of(end) * S::kPart - W >= r.width;
    const int whole = beyond ? end - 1 : end;
    for (int k = 0; k < r.cout && first < whole; k++) {
      const V bias = set1(r.bias ? r.bias[k] : 0.0f);
      const float* const row = m + k * b.stride;
      for (int i = first; i < whole; i++) {
        const int x = s.part_of(i) * S::kPart;
        if (rows.count == T) winograd2d_output_vector<T, true>(rows, row + i * W, b.point, bias, k, x);
        else winograd2d_output_vector<T, false>(rows, row + i * W, b.point, bias, k, x);
      }
    }
    if (beyond) winograd2d_output_mixed<T>(r, b, m + whole * W, Mixed<T>(s, whole));
    if (s.mixed()) winograd2d_output_mixed<T>(r, b, m + end * W, Mixed<T>(s, end));
  }
}

template <int T>
void winograd2d_tiles(const WinogradRows& r) {
  constexpr int P = T + 2;
  const TileBlocks b = tile_blocks<T>(r.cin, r.cout, r.width, r.rows);
  float* const m = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64);
  float* const v = m + b.point;
  const bool far = r.cin + r.cout > kNearChannels;
  for (int i = 0; i < b.count; i++) {
    const int v0 = b.begin(i), v1 = b.begin(i + 1), v2 = i + 1 < b.count ? b.begin(i + 2) : v1;
    const Segments<T> segments(b, v0, v1);
    winograd2d_input(r, b, v, segments, far);
    Prefetch<T> next(far ? r.in : nullptr, b.lines, P, 2, r.in_stride, r.cin, Segments<T>(b, v1, v2));
    Prefetch<T> residual(far ? r.residual : nullptr, r.rows, T, 0, r.residual_stride, r.cout, segments);
    Prefetch<T> out(far ? r.out : nullptr, r.rows, T, 0, r.out_stride, r.cout, segments);
    Prefetch<T>* const prefetch[] = {&next, &residual, &out};
    winograd2d_products(r, b, m, v, v1 - v0, prefetch);
    winograd2d_output(r, b, m, segments);
  }
}

void winograd2d(const WinogradRows& r) { (r.tile == 4 ? winograd2d_tiles<4> : winograd2d_tiles<6>)(r); }

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
