// CUDA on a processor, for tests of kernels where there is no GPU: what `device.cuh` promises, lane by lane.
//
// The threads of a block are fibres on one thread of the machine. A fibre runs until it comes to a barrier, of the block or of its warp, and the next
// one goes on; so a missing barrier shows as a wrong result, and one that some threads do not reach as an error. Blocks run one after another, and
// threads, from the first to the last, and asynchronous copies are made as late as they may be: when they are waited for. Or, backwards, from the last
// to the first, and copies are made at once: so what is still read when they are begun shows as well.
#pragma once

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#define FASTSR_DEVICE inline
#define FASTSR_KERNEL void
#define FASTSR_BOUNDS(threads, blocks)
#define FASTSR_CHECK(condition) ((condition) ? void() : emulator::fail("not so: " #condition))
#define FASTSR_SHARED(name) unsigned char* name = emulator::shared_memory()
#define __host__

struct Dimensions {
  int x, y, z;
};

namespace emulator {

struct Copy {
  void* to;
  const void* from;
  bool real;

  void make() const {
    if (real)
      std::memcpy(to, from, 16);
    else
      std::memset(to, 0, 16);
  }
};

struct Fibre {
  jmp_buf at;
  bool started = false, done = false;
  long barriers = 0, warp_barriers = 0;
  std::vector<std::vector<Copy>> groups;  // committed, the last one open
  unsigned words[8];                      // what the lane shows the others of its warp
  const void* row;
};

struct Block {
  std::vector<Fibre> fibres;
  std::vector<unsigned char> shared;
  std::function<void()> body;
  int current = 0;
  bool backwards = false;
  jmp_buf back;
  Dimensions thread, block, block_size, grid;
};

[[noreturn]] void fail(const char* what);
Block& state();
unsigned char* shared_memory();
void wait_block();
void wait_warp();
Fibre& self();
Fibre& lane(int k);

}  // namespace emulator

#define threadIdx (emulator::state().thread)
#define blockIdx (emulator::state().block)
#define blockDim (emulator::state().block_size)
#define gridDim (emulator::state().grid)
#define __syncthreads() emulator::wait_block()

namespace fastsr {

struct alignas(2) half {
  unsigned short bits;
};

inline float to_float(float v) { return v; }

inline float float_of_half(unsigned short bits) {
  const unsigned sign = bits & 0x8000u, exponent = bits >> 10 & 31, fraction = bits & 1023;
  float f;
  if (exponent == 0)
    f = std::ldexp(static_cast<float>(fraction), -24);
  else if (exponent == 31)
    f = fraction ? NAN : INFINITY;
  else
    f = std::ldexp(static_cast<float>(fraction + 1024), static_cast<int>(exponent) - 25);
  return sign ? -f : f;
}

inline float to_float(half v) {
  static const std::vector<float> all = [] {
    std::vector<float> values(65536);
    for (unsigned k = 0; k < 65536; ++k) values[k] = float_of_half(static_cast<unsigned short>(k));
    return values;
  }();
  return all[v.bits];
}

template <class T>
inline T from_float(float v);

template <>
inline float from_float<float>(float v) {
  return v;
}

template <>
inline half from_float<half>(float v) {
  const unsigned short sign = std::signbit(v) ? 0x8000 : 0;
  const float m = std::fabs(v);
  if (std::isnan(v)) return {0x7fff};
  if (m >= 65520.0f) return {static_cast<unsigned short>(sign | 0x7c00)};
  if (m < std::ldexp(1.0f, -14)) return {static_cast<unsigned short>(sign | static_cast<unsigned>(std::nearbyint(std::ldexp(m, 24))))};
  int exponent;
  const float part = std::frexp(m, &exponent);  // 0.5 .. 1
  const unsigned rounded = static_cast<unsigned>(std::nearbyint(std::ldexp(part, 11)));
  return {static_cast<unsigned short>(sign | (((exponent + 13) << 10) + rounded))};
}

inline unsigned pack_halves(float low, float high) {
  return from_float<half>(low).bits | static_cast<unsigned>(from_float<half>(high).bits) << 16;
}

inline void copy_async(void* shared, const void* global, bool real) {
  if (reinterpret_cast<std::uintptr_t>(shared) % 16 || reinterpret_cast<std::uintptr_t>(global) % 16) {
    std::fprintf(stderr, "copy_async: an address is no multiple of 16\n");
    std::abort();
  }
  auto& groups = emulator::self().groups;
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back({shared, global, real});
  if (emulator::state().backwards) groups.back().back().make();
}

inline void copies_commit() {
  auto& groups = emulator::self().groups;
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

template <int Left>
inline void copies_wait() {
  auto& groups = emulator::self().groups;
  const std::size_t closed = groups.empty() ? 0 : groups.size() - 1;
  for (std::size_t k = 0; k + Left < closed; ++k) {
    if (!emulator::state().backwards)
      for (const auto& copy : groups[k]) copy.make();
    groups[k].clear();
  }
  if (closed > Left) groups.erase(groups.begin(), groups.begin() + static_cast<long>(closed - Left));
}

inline void load_matrices(unsigned (&m)[4], const void* row) {
  emulator::self().row = row;
  emulator::wait_warp();
  const int k = emulator::state().thread.x % 32;
  for (int i = 0; i < 4; ++i) std::memcpy(&m[i], static_cast<const unsigned char*>(emulator::lane(8 * i + k / 4).row) + k % 4 * 4, 4);
  emulator::wait_warp();
}

inline float half_of(unsigned word, int k) { return to_float(half{static_cast<unsigned short>(word >> 16 * k)}); }

inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  auto& mine = emulator::self();
  for (int i = 0; i < 4; ++i) mine.words[i] = a[i];
  mine.words[4] = b0;
  mine.words[5] = b1;
  emulator::wait_warp();
  const int id = emulator::state().thread.x % 32, group = id / 4, quad = id % 4;
  for (int i = 0; i < 4; ++i) {
    const int high = i / 2, column = 2 * quad + i % 2;  // rows group and group + 8
    for (int k = 0; k < 16; ++k) {
      const unsigned left = emulator::lane(group * 4 + k % 8 / 2).words[high + k / 8 * 2];
      const unsigned right = emulator::lane(column * 4 + k % 8 / 2).words[4 + k / 8];
      c[i] += half_of(left, k % 2) * half_of(right, k % 2);
    }
  }
  emulator::wait_warp();
}

}  // namespace fastsr
