#include "engine/team.h"

#include <chrono>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastsr {

void Team::wait(int spins) {
  constexpr int kSpins = 4000, kYields = 6000;  // some tens of microseconds; then about a millisecond
  if (spins < kSpins) {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__GNUC__) && defined(__aarch64__)
    asm volatile("yield");
#endif
  } else if (spins < kYields) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace fastsr
