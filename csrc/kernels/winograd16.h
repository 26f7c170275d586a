// A 3x3 convolution (stride 1, dilation 1) by Winograd's F(4x4, 3x3) in 16-bit integers: 36 multiply-adds per 16 results instead of 144, two of them in
// one lane of one instruction.
//   V[p] = round(s[p] * (B^T d B)[p])   per input channel, p one of 6 x 6 points; s[p] a constant of the layer and channel
//   M[p] = sum over the input channels of V[p] * U[p], exactly, in 32 bits
//   y    = A^T (scale[p] M[p]) A + bias, then activation, residual and store; scale[p] undoes the output channel's scale of U[p], which undoes s[p]
//
// Points: 0, +-1, 1/2, -2, infinity, in both directions. Of the usual sets they make the smallest error in integers.
//
// Rounding: V is cut off to -R..R, R <= 32767, and s[p] = R / limit[p] makes full use of that for every channel. U[p] = round(S (G w G^T)[p] limit[p]), S
// so that for an output channel the magnitudes sum up to at most (2^31 - 1) / R and none is above 32767. So no sum over any of the channels leaves 32 bits,
// and no pair's. A larger R makes V finer and U coarser; it is chosen for the least error of both together.
//
// One lane is one tile, that is 4x4 results. A vector of tiles is made of four parts, each W pixels of a group of rows. A row's last part may reach beyond
// its end. The parts of a call, group after group, make its vectors, so narrow pictures fill them too: a vector may be mixed of parts of several groups.
// The vectors are cut into nearly equal blocks of at most kDotVectors. The parts that a block has of one group are a run. Tiles lie in a vector in an
// order that in-lane instructions make: element e of lane l is tile e * W / 4 + l, so element e of all lanes is part e.
//   V: [point][pair of input channels][vector][tile][2], an odd last channel is paired with itself and the weight 0
//   U: [point][block of output channels][pair][channel in block][2]
//   M: [output channel][vector][point][tile]
//
// Every element is one fixed sequence of operations, the same for all instruction sets but scalar, where a multiply-add rounds twice.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "blocks16.h"
#include "fast.h"
#include "half.h"
#include "winograd16_dot.h"
#include "winograd16_pack.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr size_t kSumsBytes = 192 * 1024;  // of M, unless one block of channels takes more

// ---- where everything lies -----------------------------------------------------------------------------------------------------------------------

struct Layout16 {
  int in_row, parts, vectors;  // parts of a group, of all groups; vectors of all groups
  int count, most;             // blocks, vectors of the largest one
  int channels;                // output channels whose M is kept at once, a whole number of blocks
  ptrdiff_t lines, v, m;       // scratch: floats of the six lines that B^T makes, int16_t of V's points, int32_t of M's channels
  int begin(int i) const { return static_cast<int>(static_cast<int64_t>(vectors) * i / count); }  // the first vector of block i
};

FASTSR_INLINE Layout16 layout16(int cin, int cout, int width, int rows) {
  Layout16 l;
  l.in_row = width / W + (width % W != 0);
  l.parts = l.in_row * ((rows + kTile - 1) / kTile);
  l.vectors = (l.parts + kTile - 1) / kTile;
  l.count = (l.vectors + kDotVectors - 1) / kDotVectors;
  l.most = l.vectors < kDotVectors ? l.vectors : kDotVectors;  // grows with the picture, unlike the largest block
  l.lines = static_cast<ptrdiff_t>(kPoints) * (2 * kTile * kDotVectors) * 2 * W;  // each part may be a run, with another column
  l.v = static_cast<ptrdiff_t>(pairs_of(cin)) * l.most * 2 * W + 32;  // the same place of all points in different sets of the first cache level
  l.m = static_cast<ptrdiff_t>(kPoints2) * l.most * W + 16;
  const Blocks16 blocks = blocks16(cout);
  const int fits = static_cast<int>(kSumsBytes / (static_cast<size_t>(l.m) * sizeof(int32_t)) / blocks.most());
  l.channels = (fits < 1 ? 1 : fits < blocks.count ? fits : blocks.count) * blocks.most();
  return l;
}

size_t winograd16_scratch(int cin, int cout, int width, int rows) {
  const Layout16 l = layout16(cin, cout, width, rows);
  const size_t channel = static_cast<size_t>(l.m) * sizeof(int32_t), all = channel * static_cast<size_t>(cout);
  const size_t some = channel * kDotChannels > kSumsBytes ? channel * kDotChannels : kSumsBytes;
  return static_cast<size_t>(l.lines) * sizeof(float) + kPoints2 * static_cast<size_t>(l.v) * sizeof(int16_t) + (all < some ? all : some) + 64;
}

// `parts` parts of a group from its part x on, which are at `at` of their block's `of`.
struct Run16 {
  int group, x, parts, at, of;
  bool valid() const { return at < of; }
};

// The run that begins at part `at` of the block whose parts are first .. first + of - 1.
FASTSR_INLINE Run16 run16(const Layout16& l, int first, int at, int of) {
  const int x = (first + at) % l.in_row, rest = l.in_row - x;
  return {(first + at) / l.in_row, x, rest < of - at ? rest : of - at, at, of};
}

// The parts of a block. column: of transform_lines' lines, that of a part; those of parts behind the last one of all are the last one's.
struct Block16 {
  int first, parts, vectors;
  int group[kTile * kDotVectors], x[kTile * kDotVectors], column[kTile * kDotVectors];
  Block16(const Layout16& l, int i) : first(kTile * l.begin(i)), vectors(l.begin(i + 1) - l.begin(i)) {
    parts = l.parts - first < kTile * vectors ? l.parts - first : kTile * vectors;
    int at = 0, runs = 0;
    for (Run16 run = run16(l, first, 0, parts); run.valid(); run = run16(l, first, at, parts), runs++)
      for (int j = 0; j < run.parts; j++, at++) {
        group[at] = run.group;
        x[at] = run.x + j;
        column[at] = at + runs;
      }
    for (; at < kTile * vectors; at++) column[at] = column[at - 1];
  }
  int wanted(int vector) const { return parts - kTile * vector < kTile ? parts - kTile * vector : kTile; }  // parts of a vector
  bool mixed(int vector) const { return wanted(vector) < kTile || group[kTile * vector] != group[kTile * vector + kTile - 1]; }
};

// Lines of a row.
FASTSR_INLINE int lines16(Element type, int channels) { return type == Element::kPairs ? pairs_of(channels) : channels; }

// Prefetches what a block has of rows, a piece of a row of one channel at a time.
struct Fetch16 {
  const void* const* rows;
  int n_rows, per_group, channels;  // rows; of them those of a group, from kTile times the group on
  ptrdiff_t size, stride;           // bytes of an element, from channel to channel
  const Layout16& l;
  int first, of, channel, row;      // parts of the block; what comes next
  Run16 run;
  Fetch16(const Layout16& layout, const void* const* rows_, int n_rows_, int per_group_, int channels_, Element type, ptrdiff_t stride_, int first_, int of_)
      : rows(rows_), n_rows(n_rows_), per_group(per_group_), channels(rows && of_ > 0 ? lines16(type, channels_) : 0), size(type == Element::kHalf ? 2 : 4),
        stride(stride_ * size), l(layout), first(first_), of(of_), channel(0), row(0), run(run16(layout, first_, 0, of_)) {}
  int steps() const { return channels * per_group * ((first % l.in_row + of - 1) / l.in_row + 1); }
  bool step() {
    if (channel == channels) return false;
    const int y = kTile * run.group + row;
    if (y < n_rows) {
      const char* const from = static_cast<const char*>(rows[y]) + channel * stride + run.x * W * size;
      const char* const last = from + (run.parts * W + 1) * size;
      for (const char* p = from; p < last; p += 64) FASTSR_PREFETCH(p);
      FASTSR_PREFETCH(last);
    }
    if (++row == per_group) {
      row = 0;
      const int at = run.at + run.parts;
      channel += at == of;
      run = run16(l, first, at == of ? 0 : at, of);
    }
    return true;
  }
};

// ---- V -------------------------------------------------------------------------------------------------------------------------------------------

// B^T d.
FASTSR_INLINE void transform_input(const V (&d)[kPoints], V (&t)[kPoints]) {
  const V k = set1(1.5f), e = sub(d[4], d[2]), f = sub(d[3], d[1]);
  const V p0 = fma(k, d[1], sub(d[2], d[0])), p1 = fma(k, d[2], f), p2 = fma(k, d[3], e), p3 = fma(k, d[4], sub(d[5], d[3]));
  t[0] = sub(p2, p0);
  t[1] = add(p2, p1);
  t[2] = sub(p2, p1);
  t[3] = fma(set1(2.0f), f, e);
  t[4] = fma(set1(-0.5f), f, e);
  t[5] = sub(p3, p1);
}

// B^T d of a run for two channels, `second` elements apart, in x's direction still pixels: six lines of vectors, each two vectors for W pixels, of both
// channels alternately; in every lane the first vector has the lane's first two pixels. The lines lie side by side.
constexpr int kColumn = 2 * W * kPoints;

// W pixels of a channel and of the one `second` elements further, or only the first two pixels.
template <class T>
FASTSR_INLINE void load_channels(const T* p, ptrdiff_t second, bool all, V& even, V& odd) {
  even = all ? load(p) : load_two(p);
  odd = all ? load(p + second) : load_two(p + second);
}
FASTSR_INLINE void load_channels(const uint32_t* p, ptrdiff_t, bool all, V& even, V& odd) {
  const I both = all ? load_ints(p) : load_two_ints(p);
  even = low_half(both);
  odd = high_half(both);
}

template <class T>
FASTSR_NOINLINE void transform_lines(const T* const* in, ptrdiff_t offset, ptrdiff_t second, float* lines, int parts) {
  for (int m = 0; m <= parts; m++, offset += W, lines += kColumn) {
    V d[kPoints], e[kPoints], even[kPoints], odd[kPoints];
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) load_channels(in[i] + offset, second, m < parts, d[i], e[i]);
    transform_input(d, even);
    transform_input(e, odd);
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) {
      store(lines + i * 2 * W, zip32_lo(even[i], odd[i]));
      store(lines + i * 2 * W + W, zip32_hi(even[i], odd[i]));
    }
  }
}

// (B^T d) B of the tiles of two parts, from transform_lines' lines there.
FASTSR_INLINE void transform_tiles(const float* line0, const float* line1, V (&t)[kPoints]) {
  const V a0 = load(line0), b0 = load(line0 + W), a1 = load(line1), b1 = load(line1 + W);
  const V c0 = next_lane(a0, load(line0 + kColumn)), c1 = next_lane(a1, load(line1 + kColumn));
  const V d[kPoints] = {zip64_lo(a0, a1), zip64_hi(a0, a1), zip64_lo(b0, b1), zip64_hi(b0, b1), zip64_lo(c0, c1), zip64_hi(c0, c1)};
  transform_input(d, t);
}

// lines of one point in y's direction to V of its six points; `v`: the pair of channels there, `scales`: its s[p].
FASTSR_NOINLINE void round_tiles(const float* lines, const Block16& block, const float* scales, V most, int16_t* v, ptrdiff_t point) {
  const int* column = block.column;
  for (int i = 0; i < block.vectors; i++, column += kTile, v += 2 * W) {
    V left[kPoints], right[kPoints];
    transform_tiles(lines + column[0] * kColumn, lines + column[1] * kColumn, left);
    transform_tiles(lines + column[2] * kColumn, lines + column[3] * kColumn, right);
    FASTSR_UNROLL for (int j = 0; j < kPoints; j++) {
      const V scale = set2(scales + 2 * j);
      store_pairs(v + j * point, pairs(whole(mul(left[j], scale), most), whole(mul(right[j], scale), most)));
    }
  }
}

// The rows of a run's group from its first pixel.
template <class T>
struct Lines16 {
  const T* in[kPoints];
  Lines16(const Winograd16Rows& r, const Run16& run) {
    for (int i = 0; i < kPoints; i++) in[i] = static_cast<const T*>(r.in[kTile * run.group + i]) + static_cast<ptrdiff_t>(run.x) * W;
  }
};

template <class T>
void winograd16_input(const Winograd16Rows& r, const Layout16& l, const Block16& block, float* lines, int16_t* v, Fetch16& fetch) {
  const float* scales = static_cast<const float*>(r.weights);
  const V most = set1(scales[0]);
  scales += 16;
  for (int c = 0; c < r.cin; c += 2, v += 2 * W * block.vectors, scales += 2 * kPoints2) {
    const ptrdiff_t line = r.in_type == Element::kPairs ? c / 2 : c;
    for (Run16 run = run16(l, block.first, 0, block.parts); run.valid(); run = run16(l, block.first, run.at + run.parts, block.parts)) {
      for (int i = 0; i < 2 * kPoints; i++) fetch.step();
      transform_lines(Lines16<T>(r, run).in, line * r.in_stride, c + 1 < r.cin ? r.in_stride : 0, lines + block.column[run.at] * kColumn, run.parts);
    }
    for (int i = 0; i < kPoints; i++) round_tiles(lines + i * 2 * W, block, scales + 2 * i * kPoints, most, v + i * kPoints * l.v, l.v);
  }
}

// Of `halves` half vectors of tiles of a group of rows, from its half vector `first` on.
template <class T>
void measure_run(const Winograd16Rows& r, int group, int first, int halves, float* lines, Winograd16Range& range) {
  const Lines16<T> rows(r, {group, 2 * first, 0, 0, 0});
  float tiles[W];  // of the elements of half a vector
  for (int e = 0; e < W; e++) tiles[e] = static_cast<float>(e % 4 / 2 * (W / 4) + e / 4);
  for (int c = 0; c < r.cin; c += 2) {
    transform_lines(rows.in, c * r.in_stride, c + 1 < r.cin ? r.in_stride : 0, lines, 2 * halves);
    for (int i = 0; i < kPoints; i++) {
      V most[kPoints], squares[kPoints];
      for (int j = 0; j < kPoints; j++) most[j] = squares[j] = set1(0.0f);
      for (int half = 0; half < halves; half++) {
        const int rest = (r.width + kTile - 1) / kTile - (first + half) * (W / 2);  // tiles from here on
        const M wanted = lt(load(tiles), set1(static_cast<float>(rest < W ? rest : W)));
        const float* const line = lines + i * 2 * W + half * 2 * kColumn;
        V t[kPoints];
        transform_tiles(line, line + kColumn, t);
        for (int j = 0; j < kPoints; j++) {
          const V value = select(wanted, abs(t[j]), set1(0.0f));
          most[j] = max(value, most[j]);
          squares[j] = fma(value, value, squares[j]);
        }
      }
      for (int j = 0; j < kPoints; j++) {
        float a[W], b[W];
        store(a, most[j]);
        store(b, squares[j]);
        for (int e = 0; e < W; e++) {
          if (c + e % 2 == r.cin) continue;
          const ptrdiff_t at = static_cast<ptrdiff_t>(i * kPoints + j) * r.cin + c + e % 2;
          if (a[e] > range.largest[at]) range.largest[at] = a[e];
          range.squares[at] += static_cast<double>(b[e]);
        }
      }
    }
  }
}

// ---- y -------------------------------------------------------------------------------------------------------------------------------------------

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

// From the four pixels of the tiles, one vector each, to four vectors of neighbouring pixels.
FASTSR_INLINE void untile(V (&y)[kTile]) {
  const V lo01 = zip32_lo(y[0], y[1]), lo23 = zip32_lo(y[2], y[3]), hi01 = zip32_hi(y[0], y[1]), hi23 = zip32_hi(y[2], y[3]);
  y[0] = zip64_lo(lo01, lo23);
  y[1] = zip64_hi(lo01, lo23);
  y[2] = zip64_lo(hi01, hi23);
  y[3] = zip64_hi(hi01, hi23);
}

// Whether channel k waits for the next one, with which it makes words.
FASTSR_INLINE bool first_of_two(const Winograd16Rows& r, int k) { return k % 2 == 0 && k + 1 < r.cout; }

// Residual, activation and store of N neighbouring parts of a row. `first`: N vectors, from the first channel of two to the second one.
template <int N>
FASTSR_INLINE void finish_parts(const Winograd16Rows& r, V (&y)[N], int k, int row, ptrdiff_t x, uint32_t* first) {
  if (!r.residual || !r.residual_first) activate(r, y, k);
  if (r.residual) {
    FASTSR_UNROLL for (int i = 0; i < N; i++) y[i] = add(y[i], load_element(r.residual[row], r.residual_type, k * r.residual_stride + x + i * W));
    if (r.residual_first) activate(r, y, k);
  }
  if (r.out_type == Element::kPairs) {
    uint32_t* const out = static_cast<uint32_t*>(r.out[row]) + k / 2 * r.out_stride + x;
    FASTSR_UNROLL for (int i = 0; i < N; i++) {
      const I value = whole(mul(y[i], set1(r.out_pairs.scale[k])), set1(r.out_pairs.most));
      if (first_of_two(r, k)) store_words(first + i * W, value);
      else store_words(out + i * W, k % 2 ? words(load_ints(first + i * W), value) : words(value, zero()));
    }
  } else if (r.out_type == Element::kHalf) {
    uint16_t* const out = static_cast<uint16_t*>(r.out[row]) + k * r.out_stride + x;
    FASTSR_UNROLL for (int i = 0; i < N; i++) store(out + i * W, saturated(y[i]));
  } else {
    float* const out = static_cast<float*>(r.out[row]) + k * r.out_stride + x;
    FASTSR_UNROLL for (int i = 0; i < N; i++) store(out + i * W, y[i]);
  }
}

// Activation and store of a row of a vector of tiles; `first` has tiles too.
FASTSR_INLINE void finish_pairs(const Winograd16Rows& r, V (&y)[kTile], int k, int row, ptrdiff_t x, uint32_t* first) {
  const V scale = set1(r.out_pairs.scale[k]), most = set1(r.out_pairs.most);
  activate(r, y, k);
  if (first_of_two(r, k)) {
    FASTSR_UNROLL for (int i = 0; i < kTile; i++) store_words(first + i * W, whole(mul(y[i], scale), most));
    return;
  }
  FASTSR_UNROLL for (int i = 0; i < kTile; i++) {
    const I value = whole(mul(y[i], scale), most);
    y[i] = as_floats(k % 2 ? words(load_ints(first + i * W), value) : words(value, zero()));
  }
  untile(y);
  uint32_t* const out = static_cast<uint32_t*>(r.out[row]) + k / 2 * r.out_stride + x;
  FASTSR_UNROLL for (int i = 0; i < kTile; i++) store_words(out + i * W, as_ints(y[i]));
}

// Residual, activation and store of a row of a vector of tiles.
FASTSR_INLINE void finish(const Winograd16Rows& r, V (&y)[kTile], int k, int row, ptrdiff_t x, uint32_t* first) {
#if FASTSR_STORE_TILES
  if (!r.residual && r.out_type == Element::kHalf) {
    if (r.act != Act::kRelu) activate(r, y, k);
    return store_tiles(static_cast<uint16_t*>(r.out[row]) + k * r.out_stride + x, y, r.act == Act::kRelu);
  }
#endif
  if (!r.residual && r.out_type == Element::kPairs) return finish_pairs(r, y, k, row, x, first);
  untile(y);
  finish_parts(r, y, k, row, x, first);
}

// The last steps of A^T, from sums and differences: 1 and 2 are the sum and the difference of these points, 3 and 4 these points, 0 and 5 the sum's
// and the difference's companions already added.
FASTSR_INLINE void transform_output(V sum0, V sum, V difference5, V difference, V m3, V m4, V (&y)[kTile]) {
  y[0] = add(sum0, add(m3, m4));
  y[1] = fma(set1(0.5f), m3, fma(set1(-2.0f), m4, difference));
  y[2] = fma(set1(0.25f), m3, fma(set1(4.0f), m4, sum));
  y[3] = fma(set1(0.125f), m3, fma(set1(-8.0f), m4, difference5));
}

// Of one vector of tiles of output channel k, whose M is m.
FASTSR_NOINLINE void winograd16_output(const Winograd16Rows& r, const int32_t* m, const float* coefs, int k, const Block16& block, int vector,
                                      uint32_t* first) {
  float columns[kTile][kPoints * W];
  V start = set1(0.0f);
  FASTSR_NO_UNROLL for (int j = 0; j < kPoints; j++, m += W, coefs += 7) {
    V p[kPoints], y[kTile];
    FASTSR_UNROLL for (int i = 0; i < kPoints; i++) p[i] = load_sums(m + i * kPoints * W);
    const V m1 = fma(set1(coefs[1]), p[1], start), sum = fma(set1(coefs[2]), p[2], m1), difference = fma(set1(coefs[3]), p[2], m1);
    transform_output(fma(set1(coefs[0]), p[0], sum), sum, fma(set1(coefs[6]), p[5], difference), difference, mul(set1(coefs[4]), p[3]),
                     mul(set1(coefs[5]), p[4]), y);
    FASTSR_UNROLL for (int i = 0; i < kTile; i++) store(columns[i] + j * W, y[i]);
    start = set1(j == 0 && r.bias ? r.bias[k] : 0.0f);  // every result has the point (1, 1) once
  }
  const int *const groups = block.group + kTile * vector, *const x = block.x + kTile * vector;
  const bool mixed = block.mixed(vector);
  FASTSR_NO_UNROLL for (int i = 0; i < kTile; i++) {
    if (kTile * groups[0] + i >= r.rows) break;
    V c[kPoints], t[kTile];
    FASTSR_UNROLL for (int j = 0; j < kPoints; j++) c[j] = load(columns[i] + j * W);
    const V sum = add(c[1], c[2]), difference = sub(c[1], c[2]);
    transform_output(add(c[0], sum), sum, add(c[5], difference), difference, c[3], c[4], t);
    if (!mixed) {
      finish(r, t, k, kTile * groups[0] + i, static_cast<ptrdiff_t>(x[0]) * W, first + i * kTile * W);
      continue;
    }
    untile(t);
    FASTSR_UNROLL for (int j = 0; j < kTile; j++) {
      V part[1] = {t[j]};
      if (j < block.wanted(vector) && kTile * groups[j] + i < r.rows)
        finish_parts(r, part, k, kTile * groups[j] + i, static_cast<ptrdiff_t>(x[j]) * W, first + (i * kTile + j) * W);
    }
  }
}

// ---- all of it -----------------------------------------------------------------------------------------------------------------------------------

FASTSR_INLINE float* scratch16(const Winograd16Rows& r) { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64); }

template <class Dot>
void winograd16(const Winograd16Rows& r) {
  static constexpr BlockTable<DotBlocks<Dot>> kBlocks;
  const Layout16 l = layout16(r.cin, r.cout, r.width, r.rows);
  float* const lines = scratch16(r);
  int16_t* const v = reinterpret_cast<int16_t*>(lines + l.lines);
  int32_t* const m = reinterpret_cast<int32_t*>(v + kPoints2 * l.v);
  const float* const coefs = static_cast<const float*>(r.weights) + scales_floats(r.cin);
  const int16_t* const u = reinterpret_cast<const int16_t*>(coefs + coefs_floats(r.cout));
  const size_t u_point = point_weights(r.cout, r.cin), weights = static_cast<size_t>(pairs_of(r.cin)) * 2;
  const Blocks16 blocks = blocks16(r.cout);
  const int n_lines = (r.rows + kTile - 1) / kTile * kTile + 2;
  const int together = r.out_type == Element::kPairs ? 2 : 1;
  alignas(64) uint32_t first_channel[kTile * kTile * W];
  const int n_pairs = pairs_of(r.cin), per_pass = l.channels / blocks.most();
  for (int b = 0; b < l.count; b++) {
    const Block16 block(l, b);
    Fetch16 ahead(l, b == 0 ? r.in : nullptr, n_lines, kPoints, r.cin, r.in_type, r.in_stride, block.first, block.parts);  // later blocks' are there
    for (int i = 0; i < 4 * kPoints; i++) ahead.step();
    if (r.in_type == Element::kPairs) {
      winograd16_input<uint32_t>(r, l, block, lines, v, ahead);
    } else if (r.in_type == Element::kHalf) {
      winograd16_input<uint16_t>(r, l, block, lines, v, ahead);
    } else {
      winograd16_input<float>(r, l, block, lines, v, ahead);
    }
    const int last = b + 1 < l.count ? kTile * l.begin(b + 2) < l.parts ? kTile * l.begin(b + 2) : l.parts : block.first + block.parts;
    Fetch16 next(l, r.in, n_lines, kPoints, r.cin, r.in_type, r.in_stride, block.first + block.parts, last - block.first - block.parts);
    Fetch16 residual(l, r.residual, r.rows, kTile, r.cout, r.residual_type, r.residual_stride, block.first, block.parts);
    Fetch16 out(l, r.out, r.rows, kTile, r.cout, r.out_type, r.out_stride, block.first, block.parts);
    const int calls = kPoints2 * blocks.count, steps = (next.steps() + residual.steps() + out.steps() + calls - 1) / calls;
    for (int b0 = 0, k0 = 0; b0 < blocks.count; b0 += per_pass) {
      const int b1 = b0 + per_pass < blocks.count ? b0 + per_pass : blocks.count;
      int k1 = k0;
      for (int p = 0; p < kPoints2; p++) {
        k1 = k0;
        for (int i = b0; i < b1; i++) {
          const int kb = blocks.size(i);
          const size_t at = static_cast<size_t>(k1) * weights;
          const size_t pass = b1 < blocks.count ? static_cast<size_t>(l.channels) * weights : 0;  // to the next pass, or back to the next block's first one
          const int16_t* const then = p + 1 < kPoints2 ? u + (p + 1) * u_point + at : u + (pass > 0 ? at + pass : at - static_cast<size_t>(k0) * weights);
          kBlocks.block[kb][block.vectors](v + p * l.v, u + p * u_point + at, n_pairs, m + (k1 - k0) * l.m + p * W, l.m, then);
          k1 += kb;
          for (int s = 0; s < steps && (out.step() || residual.step() || next.step()); s++) {
          }
        }
      }
      for (int k = k0; k < k1; k += together)
        for (int i = 0; i < block.vectors; i++)
          for (int c = k; c < k + together && c < k1; c++)
            winograd16_output(r, m + (c - k0) * l.m + i * kPoints2 * W, coefs + static_cast<ptrdiff_t>(c) * kCoefs, c, block, i, first_channel);
      k0 = k1;
    }
  }
}

void winograd16_measure(const Winograd16Rows& r, Winograd16Range& range) {
  float* const lines = scratch16(r);
  const int tiles = (r.width + kTile - 1) / kTile, groups = (r.rows + kTile - 1) / kTile;
  const int halves = (tiles + W - 1) / W * 2, most = 2 * kDotVectors;
  for (int group = 0; group < groups; group++) {
    for (int first = 0; first < halves; first += most) {
      const int n = halves - first < most ? halves - first : most;
      if (r.in_type == Element::kHalf) {
        measure_run<uint16_t>(r, group, first, n, lines, range);
      } else {
        measure_run<float>(r, group, first, n, lines, range);
      }
    }
  }
  range.tiles += static_cast<double>(tiles) * groups;
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
