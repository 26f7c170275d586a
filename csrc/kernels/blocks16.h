// How the kernels of 16-bit integers cut channels.
//
// Body file: included once by each target unit of the tier `fast`, after a header of csrc/simd for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int16.h"
#endif

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

FASTSR_INLINE size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
FASTSR_INLINE int pairs_of(int channels) { return channels / 2 + channels % 2; }

// Output channels in blocks that begin at even ones, of nearly equal numbers of pairs: the first `smaller` of `count` blocks have `pairs` of them, the others
// one more. The last block lacks a channel where their number is odd.
struct Blocks16 {
  int cout, count, pairs, smaller;
  int size(int block) const {
    const int even = 2 * (pairs + (block >= smaller));
    return block + 1 == count && cout % 2 ? even - 1 : even;
  }
  int most() const { return count - smaller == 1 && cout % 2 ? 2 * pairs + 1 : 2 * (pairs + (smaller < count)) - (count == 1 && cout % 2); }
};

FASTSR_INLINE Blocks16 blocks16(int cout) {
  constexpr int kMost = kDotChannels / 2;
  const int pairs = pairs_of(cout), count = (pairs + kMost - 1) / kMost;
  return {cout, count, pairs / count, count - pairs % count};
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
