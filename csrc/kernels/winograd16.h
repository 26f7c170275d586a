// A 3x3 convolution (stride 1, dilation 1) by Winograd's F(TY x TX, 3x3) in 16-bit integers: 36 multiply-adds per 16 results (4 x 4), 48 per 24
// (6 rows of 4) or 64 per 36 (6 x 6) instead of 9 a result, two of them in one lane of one instruction.
//   V[p] = round(s[p] * (B^T d B)[p])   per input channel, p one of (TY + 2) x (TX + 2) points; s[p] a constant of the layer and channel
//   M[p] = sum over the input channels of V[p] * U[p], exactly, in 32 bits
//   y    = A^T (scale[p] M[p]) A + bias, then activation, residual and store; scale[p] undoes the output channel's scale of U[p], which undoes s[p]
// A larger tile saves multiplications, and V and M are smaller for the same results, but U is larger, and it errs more.
//
// Rounding: V is cut off to -R..R, R <= 32767, and s[p] = R / limit[p] makes full use of that for every channel. U[p] = round(S (G w G^T)[p] limit[p]), S
// so that for an output channel the magnitudes sum up to at most (2^31 - 1) / R and none is above 32767. So no sum over any of the channels leaves 32 bits,
// and no pair's. A larger R makes V finer and U coarser; it is chosen for the least error of both together.
//
// One lane is one tile, that is TY rows of TX results; the tiles of a group of TY rows lie side by side. Slots, W of which make a vector, are filled with the tiles of
// one group after the other, so that narrow pictures fill the vectors too, or with each group from a new vector on, where that takes no more vectors. The
// vectors are cut into nearly equal blocks of at most kDotVectors. The tiles that a block has of one group are a run, those of a vector a piece.
//   lines: [channel of two][point in y's direction][column of the tile][slot], B^T d. A tile's last two columns are the next slot's first ones. So the tile
//          behind a run is made too, in the next slot: an empty one, where groups have just a few tiles, or where each begins a vector, which takes W slots
//          more for that. Otherwise the next run is there and these columns are kept elsewhere.
//   V: [point][pair of input channels][vector][tile][2], an odd last channel is paired with itself and the weight 0
//   U: [point][block of output channels][pair][channel in block][2]
//   M: [output channel][vector][point][tile], of as many output channels as kSumsBytes hold
//
// Every element is one fixed sequence of operations, the same for all instruction sets but scalar, where a multiply-add rounds twice.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif
#include "winograd16_dot.h"
#include "winograd16_input.h"
#include "winograd16_output.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

template <int TY, int TX>
size_t winograd16_scratch(int cin, int cout, int width, int rows) {
  const Layout16 l = layout16<TY, TX>(cin, cout, width, rows);
  const size_t channel = static_cast<size_t>(l.m) * sizeof(float), all = channel * static_cast<size_t>(cout), vectors = static_cast<size_t>(l.most);
  const size_t lines = 2 * (TY + 2) * (TX * (2 * vectors + 1) + kKeptColumns * vectors) * W;  // grows with the picture, unlike l.lines
  const size_t most = channel * kDotChannels > kSumsBytes ? channel * kDotChannels : kSumsBytes;
  return lines * sizeof(float) + points16<TY, TX>() * static_cast<size_t>(l.v) * sizeof(int16_t) + (all < most ? all : most) + 64;
}

FASTSR_INLINE float* scratch16(const Winograd16Rows& r) { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(r.scratch) + 63) / 64 * 64); }

template <int TY, int TX, class Dot>
void winograd16(const Winograd16Rows& r) {
  static constexpr BlockTable<DotBlocks<Dot>> kBlocks;
  constexpr int kPoints = points16<TY, TX>(), kCoefs = (TX + 2) * Points16<TY>::kCoefs;
  const Layout16 l = layout16<TY, TX>(r.cin, r.cout, r.width, r.rows);
  float* const lines = scratch16(r);
  int16_t* const v = reinterpret_cast<int16_t*>(lines + l.lines);
  int32_t* const m = reinterpret_cast<int32_t*>(v + kPoints * l.v);
  const float* const coefs = static_cast<const float*>(r.weights) + scales_floats<TY, TX>(r.cin);
  const int16_t* const u = reinterpret_cast<const int16_t*>(coefs + coefs_floats<TY, TX>(r.cout));
  const size_t u_point = point_weights(r.cout, r.cin), weights = static_cast<size_t>(pairs_of(r.cin)) * 2;
  const Blocks16 blocks = blocks16(r.cout);
  const int n_lines = l.groups * TY + 2, together = r.out_type == Element::kPairs ? 2 : 1;
  alignas(64) uint32_t first_channel[TY * kFirst<TX>];
  const int n_pairs = pairs_of(r.cin);
  for (int b = 0; b < l.count; b++) {
    const Block16 block(l, b);
    Fetch16 ahead(block, r.in, n_lines, TY + 2, TY, TX, r.cin, r.in_type, r.in_stride);  // again, where the last block's products did: much was read since
    for (int i = 0; i < 4 * block.runs; i++) ahead.step();
    if (r.in_type == Element::kPairs) {
      winograd16_input<TY, TX, uint32_t>(r, l, block, lines, v, ahead);
    } else if (r.in_type == Element::kHalf) {
      winograd16_input<TY, TX, uint16_t>(r, l, block, lines, v, ahead);
    } else {
      winograd16_input<TY, TX, float>(r, l, block, lines, v, ahead);
    }
    const Block16 following(l, b + 1 < l.count ? b + 1 : b);
    Fetch16 next(following, b + 1 < l.count ? r.in : nullptr, n_lines, TY + 2, TY, TX, r.cin, r.in_type, r.in_stride);
    Fetch16 residual(block, r.residual, r.rows, TY, TY, TX, r.cout, r.residual_type, r.residual_stride);
    Fetch16 out(block, r.out, r.rows, TY, TY, TX, r.cout, r.out_type, r.out_stride);
    const int calls = kPoints * blocks.count, steps = (next.steps() + residual.steps() + out.steps() + calls - 1) / calls;
    for (int b0 = 0, k0 = 0; b0 < blocks.count; b0 += l.blocks) {
      const int b1 = b0 + l.blocks < blocks.count ? b0 + l.blocks : blocks.count;
      int k1 = k0;
      for (int p = 0; p < kPoints; p++) {
        const int after = p + 1 < kPoints ? p + 1 : 0;  // the next point; behind the last one the first: right where one pass does all
        k1 = k0;
        for (int i = b0; i < b1; i++) {
          const int kb = blocks.size(i);
          const int16_t* const here = u + static_cast<size_t>(k1) * weights;
          kBlocks.block[kb][block.vectors](v + p * l.v, here + p * u_point, n_pairs, m + (k1 - k0) * l.m + p * W, l.m, l.m_vector, here + after * u_point);
          k1 += kb;
          for (int s = 0; s < steps && (out.step() || residual.step() || next.step()); s++) {
          }
        }
      }
      for (int k = k0; k < k1; k += together)
        for (int i = 0; i < block.vectors; i++)
          for (int j = k; j < k + together && j < k1; j++)
            output_tiles<TY, TX>(r, m + (j - k0) * l.m + i * l.m_vector, coefs + static_cast<ptrdiff_t>(j) * kCoefs, j, block, i, first_channel);
      k0 = k1;
    }
  }
}

template <int TY, int TX>
void winograd16_measure(const Winograd16Rows& r, Winograd16Range& range) {
  const Layout16 l = layout16<TY, TX>(r.cin, 1, r.width, r.rows);
  float* const lines = scratch16(r);
  for (int b = 0; b < l.count; b++) {
    const Block16 block(l, b);
    if (r.in_type == Element::kHalf) {
      measure_block<TY, TX, uint16_t>(r, l, block, lines, range);
    } else {
      measure_block<TY, TX, float>(r, l, block, lines, range);
    }
  }
  range.tiles += static_cast<double>(l.tiles) * l.groups;
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
