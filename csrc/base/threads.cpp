#include "base/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/error.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace fastsr {

long process_id() {
#if defined(_WIN32)
  return 0;
#else
  return static_cast<long>(getpid());
#endif
}

// Under the pool's mutex, but for cap and pid.
struct Background::Queue {
  struct Task {
    int64_t number;
    std::function<void()> work;
    bool wide;
  };

  int cap = 1;
  long pid = 0;
  std::deque<Task> waiting;
  int working = 0;
  bool wide = false;  // one is being done
  int64_t added = 0, awaited = -1;
  std::set<int64_t> done;
  std::condition_variable changed;

  bool open() const { return !waiting.empty() && working < cap && !wide; }
};

namespace {

using Queue = Background::Queue;

struct Job {
  const std::function<void(int64_t, int)>* fn = nullptr;
  int64_t n = 0;
  int cap = 1;
  std::atomic<int64_t> next{0};
  // Under the pool's mutex:
  int joined = 1;   // slots handed out; slot 0 is the caller's
  int working = 0;  // pool threads inside the job
  std::exception_ptr error;
  std::condition_variable finished;

  bool open() const { return joined < cap && next.load(std::memory_order_relaxed) < n; }
  void stop() { next.store(n, std::memory_order_relaxed); }
};

thread_local bool inside_job = false;
std::atomic<bool> ending{false};

// Takes units until there are none, or until `leave`.
void work(Job& job, int slot, const std::atomic<bool>& leave) {
  while (!leave.load(std::memory_order_relaxed)) {
    const int64_t unit = job.next.fetch_add(1, std::memory_order_relaxed);
    if (unit >= job.n) return;
    (*job.fn)(unit, slot);
  }
}

class Pool {
 public:
  void run(Job& job, const std::function<void()>& poll) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      grow(std::min<int64_t>(job.cap, job.n) - 1);
      jobs_.push_back(&job);
    }
    wake_.notify_all();
    std::exception_ptr mine;
    inside_job = true;
    try {
      work(job, 0, stay_);
    } catch (...) {
      mine = std::current_exception();
      job.stop();
    }
    inside_job = false;
    std::unique_lock<std::mutex> lock(mutex_);
    jobs_.remove(&job);
    while (job.working > 0) {
      if (!poll || mine) {
        job.finished.wait(lock);
        continue;
      }
      job.finished.wait_for(lock, std::chrono::milliseconds(50));
      lock.unlock();
      try {
        poll();
      } catch (...) {
        mine = std::current_exception();
        job.stop();
      }
      lock.lock();
    }
    if (mine) std::rethrow_exception(mine);
    if (job.error) std::rethrow_exception(job.error);
  }

  void open(Queue& queue) {
    const std::lock_guard<std::mutex> lock(mutex_);
    grow(queue.cap);
    queues_.push_back(&queue);
  }

  int64_t add(Queue& queue, std::function<void()> task, bool wide) {
    int64_t number;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      number = queue.added++;
      queue.waiting.push_back({number, std::move(task), wide});
    }
    wake_.notify_one();
    return number;
  }

  bool done(const Queue& queue, int64_t task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return queue.done.count(task) > 0;
  }

  void wait(Queue& queue, int64_t task, const std::function<void()>& poll) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (queue.done.count(task) == 0) {
      if (threads_.empty() && queue.open()) {  // the system gives no threads
        do_task(queue, lock);
        continue;
      }
      queue.awaited = task;
      queue.changed.wait_for(lock, std::chrono::milliseconds(50));
      queue.awaited = -1;
      lock.unlock();
      poll();
      lock.lock();
    }
    queue.done.erase(task);
  }

  void close(Queue& queue) {
    std::unique_lock<std::mutex> lock(mutex_);
    queue.waiting.clear();
    queues_.remove(&queue);
    queue.changed.wait(lock, [&] { return queue.working == 0; });
  }

  // Pool threads end after the unit they are at; callers still inside run() do the rest alone.
  void shut_down() {
    ending.store(true, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

  const long pid = process_id();

 private:
  void grow(int64_t wanted) {
    wanted = std::min<int64_t>(wanted, kMaxThreads - 1);
    while (!stopping_ && static_cast<int64_t>(threads_.size()) < wanted) {
      try {
        threads_.emplace_back([this] { loop(); });
      } catch (const std::system_error&) {
        return;  // the system gives no more threads: the caller does the work with those there are
      }
    }
  }

  Job* pick() {
    for (Job* job : jobs_)
      if (job->open()) return job;
    return nullptr;
  }

  // Those of one owner after those of another.
  Queue* pick_queue() {
    for (auto it = queues_.begin(); it != queues_.end(); ++it)
      if ((*it)->open()) {
        queues_.splice(queues_.end(), queues_, it);
        return queues_.back();
      }
    return nullptr;
  }

  void loop() {
    inside_job = true;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      Job* job = nullptr;
      Queue* queue = nullptr;
      wake_.wait(lock, [&] { return stopping_ || (job = pick()) != nullptr || (queue = pick_queue()) != nullptr; });
      if (stopping_) return;
      if (job) {
        help(*job, lock);
      } else {
        do_task(*queue, lock);
      }
    }
  }

  void help(Job& job, std::unique_lock<std::mutex>& lock) {
    const int slot = job.joined++;
    ++job.working;
    lock.unlock();
    std::exception_ptr error;
    try {
      work(job, slot, stopping_);
    } catch (...) {
      error = std::current_exception();
      job.stop();
    }
    lock.lock();
    if (error && !job.error) job.error = error;
    error = nullptr;
    if (--job.working == 0) job.finished.notify_all();
  }

  void do_task(Queue& queue, std::unique_lock<std::mutex>& lock) {
    Queue::Task task = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    ++queue.working;
    queue.wide = task.wide;
    lock.unlock();
    const bool inside = inside_job;
    inside_job = !task.wide;
    task.work();
    task.work = nullptr;
    inside_job = inside;
    lock.lock();
    --queue.working;
    if (task.wide) {
      queue.wide = false;
      for (size_t i = 1; i < queue.waiting.size() && i < static_cast<size_t>(queue.cap); ++i) wake_.notify_one();
    }
    queue.done.insert(task.number);
    if (queue.awaited == task.number || queue.working == 0) queue.changed.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<Job*> jobs_;
  std::list<Queue*> queues_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  const std::atomic<bool> stay_{false};
};

std::atomic<Pool*> current{nullptr};
std::atomic<int> thread_count{0};

// Joins the threads when the library is unloaded or the process ends. The Pool itself is never freed, because a thread may still be inside run().
struct Guard {
  ~Guard() {
#if !defined(_WIN32)
    Pool* pool = current.load();
    if (pool && pool->pid == process_id()) pool->shut_down();
#endif
  }
};

Pool& pool() {
  static Guard guard;
  Pool* p = current.load(std::memory_order_acquire);
  while (!p || p->pid != process_id()) {  // first use, or a child after fork(): the parent's threads do not exist here, its pool is abandoned
    auto fresh = std::make_unique<Pool>();
    if (current.compare_exchange_strong(p, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  }
  return *p;
}

}  // namespace

bool shutting_down() { return ending.load(std::memory_order_relaxed); }

int available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::clamp(CPU_COUNT(&set), 1, kMaxThreads);
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

void set_num_threads(int n) { thread_count.store(n <= 0 ? 0 : std::min(n, kMaxThreads)); }

int get_num_threads() {
  const int n = thread_count.load();
  return n ? n : available_cores();
}

void parallel_for(int64_t n, int cap, const std::function<void(int64_t, int)>& fn, const std::function<void()>& poll) {
  if (n <= 0) return;
  if (cap <= 0) cap = get_num_threads();
  cap = static_cast<int>(std::min<int64_t>(std::min(cap, kMaxThreads), n));
  if (cap == 1 || inside_job) {
    for (int64_t i = 0; i < n; ++i) fn(i, 0);
    return;
  }
  Job job;
  job.fn = &fn;
  job.n = n;
  job.cap = cap;
  pool().run(job, poll);
}

Background::Background(int threads) : queue_(std::make_unique<Queue>()) {
  queue_->cap = std::clamp(threads, 1, kMaxThreads);
  queue_->pid = process_id();
  pool().open(*queue_);
}

Background::~Background() {
  if (queue_->pid == process_id()) {
    pool().close(*queue_);
  } else {
    static_cast<void>(queue_.release());  // its condition may have a waiter for ever
  }
}

Background::Queue& Background::queue() const {
  if (queue_->pid != process_id()) throw Error(ErrorKind::kArgument, "tasks begun before fork() are not done in the child");
  return *queue_;
}

int64_t Background::add(std::function<void()> task, bool wide) { return pool().add(queue(), std::move(task), wide); }
bool Background::done(int64_t task) const { return pool().done(queue(), task); }
void Background::wait(int64_t task, const std::function<void()>& poll) { pool().wait(queue(), task, poll); }

}  // namespace fastsr
