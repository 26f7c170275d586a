#include "fast.h"

#include <string>

#include "cpu.h"

namespace fastsr {
namespace {

// Null where this processor lacks something.
const FastKernels* table(const std::string& isa, bool quick) {
  const CpuExtras cpu = cpu_extras();
  if (isa == "scalar") return fast_kernels_scalar(quick);
  if (isa == "avx2") return cpu.half && (cpu.avx_vnni || !quick) ? fast_kernels_avx2(quick) : nullptr;
  if (isa == "avx512") return cpu.avx512_vnni || !quick ? fast_kernels_avx512(quick) : nullptr;
  if (isa == "neon") return fast_kernels_neon(quick);
  return nullptr;
}

}  // namespace

const FastKernels* fast_kernels(const Kernels& kernels) {
  const FastKernels* quick = table(kernels.isa, true);
  return quick ? quick : table(kernels.isa, false);
}

std::vector<const FastKernels*> available_fast_kernels() {
  std::vector<const FastKernels*> list;
  for (const Kernels* k : available_kernels()) {
    for (bool quick : {false, true}) {
      const FastKernels* t = table(k->isa, quick);
      if (t && (list.empty() || std::string(list.back()->isa) != t->isa || std::string(list.back()->dot) != t->dot)) list.push_back(t);
    }
  }
  return list;
}

}  // namespace fastsr
