// Tiles for sets without permutations of many elements: a load for each group. The contract is in avx2_int16.h.
//
// Body file: included by a header for 16-bit elements; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "scalar.h"
#endif

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

template <int T, class E>
struct Tiles {
  const E* p;
};
template <int T, class E>
FASTSR_INLINE Tiles<T, E> load_tiles(const E* p, int) { return {p}; }

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
