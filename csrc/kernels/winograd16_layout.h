// Where everything of winograd16.h lies: slots, vectors, blocks, and what of a block belongs to which row.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "blocks16.h"
#include "fast.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kManyTiles = 8;              // of a group
constexpr int kKeptColumns = 2;            // of the tile behind a run, see winograd16.h
constexpr int kAll = 1 << 20;              // elements that may be read
constexpr size_t kSumsBytes = 192 * 1024;  // of M, unless one block of channels takes more

// Points of tiles of TY rows and TX columns.
template <int TY, int TX>
FASTSR_INLINE constexpr int points16() { return (TY + 2) * (TX + 2); }

FASTSR_INLINE int ceil_div(int n, int by) { return n / by + (n % by != 0); }

// pitch: slots from a group to the next one. apart: so much more lies between the lines of two groups, see winograd16.h. kept: whether the columns behind a
// run are.
struct Layout16 {
  int tiles, groups, pitch, apart, vectors;  // tiles of a group of rows; of all groups: vectors
  bool kept;
  int count, most;                           // blocks, vectors that one may have
  int blocks;                                // of output channels, that are made at once
  // Scratch: floats of a line, of all lines; int16_t of V's points; int32_t of M's vectors and channels.
  ptrdiff_t line, lines, v, m_vector, m;
  int begin(int i) const { return static_cast<int>(static_cast<int64_t>(vectors) * i / count); }  // the first vector of block i
};

template <int TY, int TX>
FASTSR_INLINE Layout16 layout16(int cin, int cout, int width, int rows) {
  Layout16 l;
  l.tiles = ceil_div(width, TX);
  l.groups = ceil_div(rows, TY);
  const int gap = l.tiles < kManyTiles, packed = ceil_div(l.groups * (l.tiles + gap), W), aligned = l.groups * ceil_div(l.tiles, W);
  const bool align = !gap && aligned <= packed;
  l.apart = align ? W : 0;
  l.kept = !align && !gap;
  l.pitch = align ? ceil_div(l.tiles, W) * W : l.tiles + gap;
  l.vectors = align ? aligned : packed;
  l.count = ceil_div(l.vectors, kDotVectors);
  l.most = l.vectors < kDotVectors ? l.vectors : kDotVectors;  // grows with the picture, unlike the largest block
  l.line = (l.most + (align ? (l.most * W - 2) / l.pitch + 2 : 1)) * W;  // the runs that a block can have
  l.lines = 2 * (TX * l.line + kKeptColumns * l.most * W) * (TY + 2);
  l.v = static_cast<ptrdiff_t>(pairs_of(cin)) * l.most * 2 * W + 32;  // the same place of all points in different sets of the first cache level
  l.m_vector = points16<TY, TX>() * W;
  l.m = l.most * l.m_vector + 16;
  const Blocks16 blocks = blocks16(cout);
  const int fits = static_cast<int>(kSumsBytes / (static_cast<size_t>(l.m) * sizeof(float)) / blocks.most());
  l.blocks = fits < 1 ? 1 : fits < blocks.count ? fits : blocks.count;
  return l;
}

// `tiles` tiles of a group from its tile x on. slot: the first one's in its block. line: its place in the block's lines.
struct Run16 {
  int group, x, tiles, slot, line;
};

// A block: its runs, and of each vector the pieces of runs that it has.
struct Block16 {
  static constexpr int kMost = W * kDotVectors;
  int vectors, runs;
  Run16 run[kMost];
  Run16 piece[kMost + kDotVectors];  // slot: in the vector; line: where the lines of the vector's first slot would be
  int pieces[kDotVectors + 1];       // vector i has piece pieces[i] .. pieces[i + 1] - 1
  bool ends[kDotVectors];            // whether the columns behind some of its tiles are kept
  alignas(64) float ending[kDotVectors][W];  // 1 at these tiles, else 0

  Block16(const Layout16& l, int i) : vectors(l.begin(i + 1) - l.begin(i)), runs(0) {
    const int begin = l.begin(i) * W, end = begin + vectors * W;
    for (int group = begin / l.pitch; group < l.groups && group * l.pitch < end; group++) {
      const int first = group * l.pitch, from = first > begin ? first : begin, to = first + l.tiles < end ? first + l.tiles : end;
      if (from >= to) continue;
      run[runs] = {group, from - first, to - from, from - begin, from - begin + runs * l.apart};
      runs++;
    }
    int n = 0;
    for (int v = 0; v < vectors; v++) {
      pieces[v] = n;
      for (int j = 0; j < runs; j++) {
        const Run16& r = run[j];
        const int from = r.slot > v * W ? r.slot : v * W, to = r.slot + r.tiles < (v + 1) * W ? r.slot + r.tiles : (v + 1) * W;
        if (from >= to) continue;
        piece[n++] = {r.group, r.x + from - r.slot, to - from, from - v * W, v * W + r.line - r.slot};
      }
    }
    pieces[vectors] = n;
    for (int v = 0; v < vectors; v++) {
      ends[v] = false;
      for (int i = 0; i < W; i++) ending[v][i] = 0;
    }
    for (int j = 0; l.kept && j + 1 < runs; j++) {
      const int last = run[j].slot + run[j].tiles - 1;
      ends[last / W] = true;
      ending[last / W][last % W] = 1;
    }
  }
  // Where the lines of a vector's slots begin.
  int line(int v) const { return pieces[v] < pieces[v + 1] ? piece[pieces[v]].line : 0; }
  bool whole(int v) const { return pieces[v + 1] - pieces[v] == 1 && piece[pieces[v]].tiles == W; }
};

// Lines of a row.
FASTSR_INLINE int lines16(Element type, int channels) { return type == Element::kPairs ? pairs_of(channels) : channels; }

// Prefetches what a block has of rows, a run of one channel at a time.
struct Fetch16 {
  const char* const* rows;
  int n_rows, per_group, channels;        // rows; of them those of a group; channels
  int tile_rows, tile_columns;            // of a tile: a group begins at tile_rows times its number
  ptrdiff_t size, stride;                 // bytes of an element, from channel to channel
  const Block16& block;
  int channel, run;                       // what comes next
  Fetch16(const Block16& b, const void* const* rows_, int n_rows_, int per_group_, int tile_rows_, int tile_columns_, int channels_, Element type,
          ptrdiff_t stride_)
      : rows(reinterpret_cast<const char* const*>(rows_)), n_rows(n_rows_), per_group(per_group_), channels(rows_ ? lines16(type, channels_) : 0),
        tile_rows(tile_rows_), tile_columns(tile_columns_), size(type == Element::kHalf ? 2 : 4), stride(stride_ * size), block(b), channel(0), run(0) {}
  int steps() const { return channels * block.runs; }
  bool step() {
    if (channel >= channels || block.runs == 0) return false;
    const Run16& r = block.run[run];
    const ptrdiff_t from = channel * stride + r.x * tile_columns * size, bytes = (r.tiles * tile_columns + 1) * size;
    const int y = tile_rows * r.group, end = y + per_group < n_rows ? y + per_group : n_rows;
    for (int i = y; i < end; i++) {
      const char* const p = rows[i] + from;
      for (ptrdiff_t at = 0; at < bytes; at += 64) FASTSR_PREFETCH(p + at);
      FASTSR_PREFETCH(p + bytes);
    }
    if (++run == block.runs) {
      run = 0;
      channel++;
    }
    return true;
  }
};

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
