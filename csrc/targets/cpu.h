// Which instruction sets this processor and operating system offer, and the kernel table in use.
//
// The best available table is picked once. A mask lowers it: the environment variable FASTSR_ISA, or set_isa() in process, names the highest allowed
// set ("scalar" < "avx2" < "avx512" on x86-64, "scalar" < "neon" on AArch64). Asking for more than the processor has gives the best that it has.
#pragma once
#include <vector>

#include "../kernels/kernels.h"

namespace fastsr {

// Tables that run here, from the slowest to the fastest; the first is always scalar.
std::vector<const Kernels*> available_kernels();

// The table in use. Throws Error (kBackend) when FASTSR_ISA names no instruction set of this architecture. Safe to call from many threads.
const Kernels& kernels();

// Limits kernels() to `name` and overrides FASTSR_ISA; null or "" returns to FASTSR_ISA. Throws Error (kBackend) on a name that this architecture
// does not know and then changes nothing. Models compiled before keep their table: packed weights belong to it.
void set_isa(const char* name);

// What an x86-64 processor can have besides an instruction set's own; all false on others.
struct CpuExtras {
  bool half = false;                            // conversion of half floats (F16C), next to AVX2
  bool avx_vnni = false, avx512_vnni = false;  // products of 16-bit pairs added in one instruction, next to AVX2 or AVX-512
};
CpuExtras cpu_extras();

}  // namespace fastsr
