// What the kernels ask of the machine: halfs, tensor cores, asynchronous copies. On a GPU these are single instructions, written as PTX so that no
// header of the toolkit is needed; without one `emulator.h` (tests/cuda_host) gives the same names a meaning on a processor.
#pragma once

#ifndef __CUDACC__
#include "emulator.h"
#else

#define FASTSR_DEVICE __device__ __forceinline__
#define FASTSR_KERNEL __global__ void
#define FASTSR_CHECK(condition)  // what holds: for the emulator to see to
#define FASTSR_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
// Memory of the block, as many bytes as the launch says.
#define FASTSR_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

namespace fastsr {

// A 16-bit float, IEEE 754 binary16.
struct alignas(2) half {
  unsigned short bits;
};

FASTSR_DEVICE float to_float(float v) { return v; }

FASTSR_DEVICE float to_float(half v) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
  return f;
}

template <class T>
FASTSR_DEVICE T from_float(float v);

template <>
FASTSR_DEVICE float from_float<float>(float v) {
  return v;
}

template <>
FASTSR_DEVICE half from_float<half>(float v) {
  half h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(v));
  return h;
}

// Two floats as halfs in one word, the first in the low 16 bits.
FASTSR_DEVICE unsigned pack_halves(float low, float high) {
  unsigned word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

FASTSR_DEVICE unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// Copies 16 bytes from global to shared memory, or writes zeros there; done after `copies_wait`. Both addresses are multiples of 16.
FASTSR_DEVICE void copy_async(void* shared, const void* global, bool real) {
  int bytes = real ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}

FASTSR_DEVICE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all but the last `Left` committed groups are there; for the thread's own copies, so a barrier must follow.
template <int Left>
FASTSR_DEVICE void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

// Four 8x8 matrices of halfs: lane i gives the address of row i % 8 of matrix i / 8, and gets of each matrix the pair in row i / 4, columns
// 2 * (i % 4) and the next.
FASTSR_DEVICE void load_matrices(unsigned (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}

// c += a * b: (16, 16) by (16, 8), halfs, sums in float. PTX ISA, "Matrix fragments for mma.m16n8k16".
FASTSR_DEVICE void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace fastsr

#endif
