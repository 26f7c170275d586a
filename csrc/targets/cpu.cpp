#include "cpu.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../base/error.h"

#if defined(__x86_64__) || defined(_M_X64)
#define FASTSR_CPU_X86 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace fastsr {
namespace {

#if FASTSR_CPU_X86
struct Leaf {
  uint32_t a, b, c, d;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Leaf r{};
#if defined(_MSC_VER)
  int out[4];
  __cpuid(out, 0);
  if (leaf > static_cast<uint32_t>(out[0])) return r;
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]), static_cast<uint32_t>(out[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
#endif
  return r;
}

// Register state that the operating system saves (XCR0); only valid with OSXSAVE.
uint64_t saved_state() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

bool bit(uint32_t word, int n) { return (word >> n) & 1; }

struct Features {
  bool avx2 = false, avx512 = false;
  CpuExtras extras;
};

Features features() {
  Features f;
  const Leaf one = cpuid(1), seven = cpuid(7);
  if (!bit(one.c, 27)) return f;  // OSXSAVE
  const uint64_t state = saved_state();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6;
  f.avx2 = ymm && bit(one.c, 28) && bit(one.c, 12) && bit(seven.b, 5);                                                            // AVX, FMA, AVX2
  f.avx512 = f.avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31);  // F, DQ, BW, VL
  f.extras.half = f.avx2 && bit(one.c, 29);
  f.extras.avx_vnni = f.avx2 && seven.a >= 1 && bit(cpuid(7, 1).a, 4);
  f.extras.avx512_vnni = f.avx512 && bit(seven.c, 11);
  return f;
}
#endif

// The instruction sets of this architecture, slowest first; null where the processor lacks one.
struct Entry {
  const char* name;
  const Kernels* table;
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> list = [] {
    std::vector<Entry> e{{"scalar", kernels_scalar()}};
#if FASTSR_CPU_X86
    const Features f = features();
    e.push_back({"avx2", f.avx2 ? kernels_avx2() : nullptr});
    e.push_back({"avx512", f.avx512 ? kernels_avx512() : nullptr});
#elif defined(__aarch64__) || defined(_M_ARM64)
    e.push_back({"neon", kernels_neon()});
#endif
    return e;
  }();
  return list;
}

// The best table up to `name`; null or "" for no limit.
const Kernels* pick(const char* name, const char* origin) {
  const Kernels* best = nullptr;
  std::string known;
  for (const Entry& e : entries()) {
    if (e.table) best = e.table;
    if (name && name == std::string(e.name)) return best;
    known += std::string(known.empty() ? "" : ", ") + e.name;
  }
  if (!name || !*name) return best;
  const std::string who = std::string(origin) + " names the instruction set '" + name + "'";
  throw Error(ErrorKind::kBackend, who + ", which this architecture does not have: use one of " + known);
}

std::atomic<const Kernels*> current{nullptr};

}  // namespace

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> list;
  for (const Entry& e : entries())
    if (e.table) list.push_back(e.table);
  return list;
}

const Kernels& kernels() {
  const Kernels* k = current.load(std::memory_order_acquire);
  if (!k) {
    k = pick(std::getenv("FASTSR_ISA"), "FASTSR_ISA");
    const Kernels* none = nullptr;
    if (!current.compare_exchange_strong(none, k)) k = none;
  }
  return *k;
}

CpuExtras cpu_extras() {
#if FASTSR_CPU_X86
  static const CpuExtras extras = features().extras;
  return extras;
#else
  return {};
#endif
}

void set_isa(const char* name) { current.store(name && *name ? pick(name, "set_isa") : nullptr, std::memory_order_release); }

}  // namespace fastsr
