// Threads that work together through one job of many short turns. One of them leads: it sets up a turn, calls turn(n) and comes back when all n units
// of it are done. The others help with whatever turn is on; the leader needs none of them, so they may come late or not at all.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "base/threads.h"

namespace fastsr {

class Team {
 public:
  // `work(unit, member)` may throw: the turn's other units are then skipped and turn() throws the first exception.
  template <class Work>
  void turn(int n, const Work& work) {
    const uint64_t number = (state_.load(std::memory_order_relaxed) >> kUnitBits >> kUnitBits) + 1;
    done_.store(0, std::memory_order_relaxed);
    state_.store(pack(number, n), std::memory_order_release);
    while (take_unit(0, work)) {
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) < n; ++spins) wait(spins);
    if (failed_.load(std::memory_order_relaxed)) {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::rethrow_exception(error_);
    }
  }

  // Works on turns until close(), or until the process ends; member: the caller's number, 1 or more.
  template <class Work>
  void help(int member, const Work& work) {
    for (int spins = 0; !closed_.load(std::memory_order_acquire) && !shutting_down();) {
      if (take_unit(member, work)) {
        spins = 0;
      } else {
        wait(spins++);
      }
    }
  }

  // After the last turn, also after an exception.
  void close() { closed_.store(true, std::memory_order_release); }

 private:
  // The turn's number, its units and the next unit to take, in one word: so a unit is taken of the turn that was looked at, or not at all.
  static constexpr int kUnitBits = 20;
  static constexpr uint64_t kUnitMask = (uint64_t{1} << kUnitBits) - 1;
  static uint64_t pack(uint64_t number, int n) { return number << kUnitBits << kUnitBits | static_cast<uint64_t>(n) << kUnitBits; }

  template <class Work>
  bool take_unit(int member, const Work& work) {
    uint64_t state = state_.load(std::memory_order_acquire);
    do {
      if ((state & kUnitMask) >= (state >> kUnitBits & kUnitMask)) return false;
    } while (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire));
    if (!failed_.load(std::memory_order_relaxed)) {
      try {
        work(static_cast<int>(state & kUnitMask), member);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
        failed_.store(true, std::memory_order_relaxed);
      }
    }
    done_.fetch_add(1, std::memory_order_acq_rel);
    return true;
  }

  // Turns follow each other within microseconds; longer pauses are left to the system.
  static void wait(int spins);

  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<bool> closed_{false};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace fastsr
