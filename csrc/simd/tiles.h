// Groups for sets without permutations of many elements: `residues` loads from each group. The contract is in avx2_int16.h.
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
struct Groups {
  const E* p;
};
template <int T, class E>
FASTSR_INLINE Groups<T, E> load_groups(const E* p, int) { return {p}; }

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
