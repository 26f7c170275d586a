// The table of a kernel's register blocks.
//
// Body file, see conv.h.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

// block[kb][nv]: kb of 1 .. Blocks::kChannels output channels, nv of 1 .. Blocks::vectors(kb) vectors. Blocks::make<KB, NV>() gives the function, a
// Blocks::Block. kVectorsMost: no fewer than any vectors(kb).
template <class Blocks>
struct BlockTable {
  typename Blocks::Block block[Blocks::kChannels + 1][Blocks::kVectorsMost + 1];
  constexpr BlockTable() : block{} { fill<1, 1>(); }
  template <int KB, int NV>
  constexpr void fill() {
    static_assert(NV <= Blocks::kVectorsMost, "vectors");
    block[KB][NV] = Blocks::template make<KB, NV>();
    if constexpr (NV < Blocks::vectors(KB)) {
      fill<KB, NV + 1>();
    } else if constexpr (KB < Blocks::kChannels) {
      fill<KB + 1, 1>();
    }
  }
};

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
