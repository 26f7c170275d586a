// The thread pool: one per process, made on first use, shared by all callers. Idle threads sleep. A forked child makes a pool of its own.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace fastsr {

// Cores that this process may run on (scheduler affinity where the system has it), at least 1.
int available_cores();

// True once the library is being unloaded or the process ends: pool threads must return from what they do.
bool shutting_down();

// Changes in a forked child: what another thread had locked at the fork stays locked there, so state with locks is not carried over.
long process_id();

// Number of threads a parallel_for uses when its cap is 0, the caller included. 0 restores the default, available_cores().
void set_num_threads(int n);
int get_num_threads();

constexpr int kMaxThreads = 256;

// Calls fn(unit, slot) for each unit in 0 .. n-1, on the calling thread and up to cap - 1 others. `slot` is in 0 .. cap-1; at any time one thread has it,
// and the caller has slot 0. Units are handed out in order. Returns when all units are done. The first exception of fn stops the handing out and is thrown
// here. While the caller waits for others, `poll` (if any) is called about every 50 ms on the calling thread; its exception stops the job likewise.
// Any number of threads may call this at once. Called from within fn, it runs serially.
void parallel_for(int64_t n, int cap, const std::function<void(int64_t unit, int slot)>& fn, const std::function<void()>& poll = {});

// Tasks that pool threads do in the background, in order, while their owner does something else. Its methods are called by one thread at a time.
class Background {
 public:
  explicit Background(int threads);  // tasks that are done at once, at most
  // Forgets the tasks that nobody has begun and waits for the others. In a forked child that waits for nothing: their threads are the parent's.
  ~Background();
  Background(const Background&) = delete;

  // Returns the task's number, from 0 on. It does not throw. A wide task may share its work by parallel_for, and no other is begun while it is done;
  // within the others parallel_for runs serially. Throws Error in a forked child.
  int64_t add(std::function<void()> task, bool wide);
  bool done(int64_t task) const;
  // Returns when that task is done. `poll` is called about every 50 ms meanwhile; its exception is thrown here and changes nothing else.
  void wait(int64_t task, const std::function<void()>& poll);

  struct Queue;

 private:
  Queue& queue() const;

  std::unique_ptr<Queue> queue_;
};

}  // namespace fastsr
