// The tiles of winograd2d.h: which vectors and blocks they make, and what is fetched beforehand.
//
// A vector of tiles is made of parts, each the fewest vectors of pixels that are whole tiles. A row's last part may reach beyond its end. The parts of a
// call, group after group, make its vectors, so narrow pictures fill them too: a vector may be mixed of parts of several groups. The vectors are cut into
// blocks whose V and M stay in the second cache level. The parts that a block has of one group are a segment.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "conv.h"
#include "kernels.h"
#include "winograd_transform.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kNearFloats = 240000;  // of V, M and the weights of all points: what the second cache level holds
constexpr int kNearChannels = 32;  // of input and output together: rows of so few are still in the second cache level
constexpr int kTilesLeast = 32;      // may be fewer than a register block's if only so all that fits

template <int T>
struct Tiles {
  static constexpr int kPoints = T + 2, kAll = kPoints * kPoints;
  static constexpr int kPartVectors = T == 4 ? 1 : 3, kParts = T / kPartVectors;  // vectors of pixels of a part; parts of a vector of tiles
  static constexpr int kPart = kPartVectors * W;                                  // pixels of a part
  static constexpr int kFloats = T == 4 ? 90000 : 140000;                         // of V and M together, unless a register block takes more
  static_assert(kPart % T == 0, "parts are whole tiles");
};

size_t winograd2d_point_floats(int cout, int cin) { return (conv_pack_size(cout, cin, 1) + 15) / 16 * 16; }

size_t winograd2d_pack_size(int tile, int cout, int cin) { return static_cast<size_t>((tile + 2) * (tile + 2)) * winograd2d_point_floats(cout, cin); }

template <int T>
void winograd2d_pack_tiles(float* packed, const float* w, int cout, int cin) {
  constexpr int kPoints = Tiles<T>::kPoints;
  constexpr WinogradFilter<T, 3> g;
  const ChannelBlocks blocks = channel_blocks(cout);
  const size_t point = winograd2d_point_floats(cout, cin);
  for (int b = 0, k0 = 0; b < blocks.count; b++) {  // in conv_pack's order
    const int kb = b < blocks.larger ? blocks.size : blocks.size - 1;
    for (int c = 0; c < cin; c++, packed += kb) {
      float all[Tiles<T>::kAll][kConvChannels];  // points lie far apart: each gets its channels at once
      for (int k = 0; k < kb; k++) {
        const float* taps = w + (static_cast<size_t>(k0 + k) * cin + c) * 9;
        double columns[kPoints][3];
        for (int p = 0; p < kPoints; p++)
          for (int x = 0; x < 3; x++) columns[p][x] = g.at[p][0] * taps[x] + g.at[p][1] * taps[3 + x] + g.at[p][2] * taps[6 + x];
        for (int p = 0; p < kPoints; p++)
          for (int q = 0; q < kPoints; q++)
            all[p * kPoints + q][k] = static_cast<float>(g.at[q][0] * columns[p][0] + g.at[q][1] * columns[p][1] + g.at[q][2] * columns[p][2]);
      }
      for (int i = 0; i < Tiles<T>::kAll; i++)
        for (int k = 0; k < kb; k++) packed[i * point + k] = all[i][k];
    }
    k0 += kb;
  }
}

void winograd2d_pack(int tile, float* packed, const float* w, int cout, int cin) {
  (tile == 4 ? winograd2d_pack_tiles<4> : winograd2d_pack_tiles<6>)(packed, w, cout, cin);
}

struct TileBlocks {
  int in_row, lines, parts;  // parts of a group of rows; lines of the input; parts of all groups
  int vectors, count;        // of all tiles; blocks
  ptrdiff_t stride, point;   // floats from channel to channel and from point to point of V and M
  int begin(int i) const { return static_cast<int>(static_cast<int64_t>(vectors) * i / count); }  // the first vector of block i
};

template <int T>
FASTSR_INLINE TileBlocks tile_blocks(int cin, int cout, int width, int rows) {
  using S = Tiles<T>;
  TileBlocks b;
  const int groups = (rows + T - 1) / T, channels = cin > cout ? cin : cout, register_block = kConvVectors[channel_blocks(cout).size];
  b.in_row = (width + S::kPart - 1) / S::kPart;
  b.lines = groups * T + 2;
  b.parts = b.in_row * groups;
  b.vectors = (b.parts + S::kParts - 1) / S::kParts;
  const int64_t vector_floats = static_cast<int64_t>(S::kAll + 1) * W * channels;
  const int fits = static_cast<int>(S::kFloats / vector_floats);
  const int64_t near = (kNearFloats - S::kAll * static_cast<int64_t>(cin) * cout) / vector_floats;
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
size_t winograd2d_scratch(int tile, int cin, int cout, int width, int rows) {
  const ptrdiff_t point = tile == 4 ? tile_blocks<4>(cin, cout, width, rows).point : tile_blocks<6>(cin, cout, width, rows).point;
  return static_cast<size_t>(((tile + 2) * (tile + 2) + 1) * point + 16);
}

// The segments of vectors v0 .. v1 - 1.
template <int T>
struct Segments {
  static constexpr int kParts = Tiles<T>::kParts;
  int in_row, group, x, parts, done, n;  // parts of a group of rows; the segment's group, first part there and parts; parts before it, of all segments
  Segments(const TileBlocks& b, int v0, int v1)
      : in_row(b.in_row), group(v0 * kParts / in_row), x(v0 * kParts % in_row), done(0), n((v1 * kParts < b.parts ? v1 * kParts : b.parts) - v0 * kParts) {
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
  int first() const { return (done + kParts - 1) / kParts; }  // the vectors that are parts of this segment alone: first() .. end() - 1
  int end() const { return (done + parts) / kParts; }
  bool mixed() const { return (done + parts) % kParts != 0 && end() * kParts >= done; }  // vector end() is mixed and begins here
  int part_of(int vector) const { return x + vector * kParts - done; }
};

// The parts of a vector, which begins in segment s. Those behind the last one of all are the last one again.
template <int T>
struct Mixed {
  static constexpr int kParts = Tiles<T>::kParts;
  int group[kParts], x[kParts], count;
  Mixed(const Segments<T>& s, int vector) : count(s.n - vector * kParts < kParts ? s.n - vector * kParts : kParts) {
    group[0] = s.group;
    x[0] = s.part_of(vector);
    for (int j = 1; j < kParts; j++) {
      const bool more = j < count, row = more && x[j - 1] + 1 == s.in_row;
      group[j] = group[j - 1] + row;
      x[j] = row ? 0 : x[j - 1] + more;
    }
  }
};

// A cache line of each of `count` channels.
struct Column {
  const float* at;
  ptrdiff_t stride;
  int count;
  void prefetch(int from = 0) const {
    for (int c = from; c < count; c++) FASTSR_PREFETCH(at + c * stride);
  }
};

// The pixels of `segments`, to be prefetched: for each segment the lines of its group, for each line its columns.
template <int T>
struct Prefetch {
  static constexpr int kPart = Tiles<T>::kPart;
  const float* const* lines;
  int n_lines, in_group, beyond;  // pointers in `lines`; how many lines belong to a group; pixels behind a segment
  Column column;
  Segments<T> all, at;
  int line, x;
  Prefetch(const float* const* lines_, int n_lines_, int in_group_, int beyond_, ptrdiff_t stride, int channels, const Segments<T>& segments)
      : lines(lines_), n_lines(n_lines_), in_group(in_group_), beyond(beyond_), column{nullptr, stride, channels}, all(segments), at(segments), line(0), x(0) {}
  int columns() const {
    int n = 0;
    for (Segments<T> s = all; lines && s.valid(); s.next()) n += (s.parts * kPart + beyond + 15) / 16 * in_group;
    return n;
  }
  // Whether there is another column; then that is `column`.
  bool next() {
    while (lines && at.valid()) {
      const int i = at.group * T + line;
      if (x < at.parts * kPart + beyond && i < n_lines) {
        column.at = lines[i] + at.x * kPart + x;
        x += 16;
        return true;
      }
      x = 0;
      if (++line < in_group) continue;
      line = 0;
      at.next();
    }
    return false;
  }
};

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
