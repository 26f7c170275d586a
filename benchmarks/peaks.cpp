// The processor's multiply-add rates, all of so many threads at once: peaks THREADS. Prints "f32 GFLOP/s" and, where the processor has them, "int16" and
// "bf16": a multiplication and an addition each. Built and run by peaks.py.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "../tests/cpp/kernels_peak.h"

namespace {

using Rate = double (*)();

void measure(const char* name, Rate rate, int threads) {
  std::vector<double> rates(static_cast<size_t>(threads));
  std::vector<std::thread> others;
  const auto work = [&](size_t i) {
    for (int k = 0; k < 4; ++k) {
      const double r = rate();
      if (r > rates[i]) rates[i] = r;
    }
  };
  for (size_t i = 1; i < rates.size(); ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& t : others) t.join();
  double sum = 0;
  for (double r : rates) sum += r;
  std::printf("%s %.1f\n", name, sum);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  if (threads < 1) return 2;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw")) {
    measure("f32", peak::avx512, threads);
    measure("int16", __builtin_cpu_supports("avx512vnni") ? peak::avx512_int16_vnni : peak::avx512_int16_plain, threads);
#ifdef FASTSR_PEAK_BF16
    if (__builtin_cpu_supports("avx512bf16")) measure("bf16", peak::avx512_bf16, threads);
#endif
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    measure("f32", peak::avx2, threads);
    measure("int16", peak::avx2_int16, threads);
  }
#elif defined(__aarch64__)
  measure("f32", peak::neon, threads);
  measure("int16", peak::neon_int16, threads);
#else
  static_cast<void>(measure);
#endif
  return 0;
}
