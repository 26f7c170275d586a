#include "emulator.h"

namespace emulator {

namespace {

constexpr std::size_t STACK = 64 << 10;

Block current_block;
std::vector<unsigned char*> stacks;
ucontext_t starting;

void leave() {
  Block& b = state();
  if (_setjmp(self().at) == 0) _longjmp(b.back, 1);
}

void enter() {
  Block& b = state();
  b.body();
  self().done = true;
  for (const auto& group : self().groups)
    if (!group.empty()) fail("a thread ended before its copies were waited for");
  _longjmp(b.back, 1);
}

void resume(int k) {
  Block& b = state();
  b.current = k;
  const int x = b.block_size.x, y = b.block_size.y;
  b.thread = {k % x, k / x % y, k / x / y};
  if (_setjmp(b.back)) return;
  if (b.fibres[static_cast<std::size_t>(k)].started) _longjmp(self().at, 1);
  self().started = true;
  getcontext(&starting);
  starting.uc_stack.ss_sp = stacks[static_cast<std::size_t>(k)];
  starting.uc_stack.ss_size = STACK;
  starting.uc_link = nullptr;
  makecontext(&starting, enter, 0);
  setcontext(&starting);
}

void run_block() {
  Block& b = state();
  const std::size_t n = b.fibres.size();
  for (auto& f : b.fibres) f = Fibre{};
  std::memset(b.shared.data(), 0x7f, b.shared.size());  // NaN in halfs: what is read before it is written shows
  while (true) {
    std::size_t done = 0, held = 0;
    long least = -1, most = -1;
    for (std::size_t k = 0; k < n; ++k) {
      Fibre& f = b.fibres[k];
      if (f.done) {
        ++done;
        continue;
      }
      least = least < 0 || f.barriers < least ? f.barriers : least;
      most = f.barriers > most ? f.barriers : most;
    }
    if (done == n) return;
    // Fibres at the same barrier of the block may go on together; others come first. A warp goes on to the block's next barrier before another one
    // begins: no two may be further apart. Within a warp the barriers of the warp decide.
    for (std::size_t i = 0; i < n; i += 32) {
      const std::size_t begin = b.backwards ? (n - 1) / 32 * 32 - i : i;
      while (true) {
        long first = -1;
        for (std::size_t k = begin; k < begin + 32 && k < n; ++k)
          if (!b.fibres[k].done && b.fibres[k].barriers == least && (first < 0 || b.fibres[k].warp_barriers < first)) first = b.fibres[k].warp_barriers;
        if (first < 0) break;
        for (std::size_t j = 0; j < 32; ++j) {
          const std::size_t k = b.backwards ? begin + 31 - j : begin + j;
          if (k >= n) continue;
          Fibre& f = b.fibres[k];
          if (f.done || f.barriers != least || f.warp_barriers != first) continue;
          resume(static_cast<int>(k));
          ++held;
        }
      }
    }
    if (!held) fail("no thread can go on");
    if (done && most > 0 && least == most) {
      for (const auto& f : b.fibres)
        if (f.done && f.barriers < least) fail("a thread ended before a barrier that others wait at");
    }
  }
}

}  // namespace

void fail(const char* what) {
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

Block& state() { return current_block; }

Fibre& self() { return current_block.fibres[static_cast<std::size_t>(current_block.current)]; }

Fibre& lane(int k) { return current_block.fibres[static_cast<std::size_t>(current_block.current / 32 * 32 + k)]; }

unsigned char* shared_memory() {
  auto at = reinterpret_cast<std::uintptr_t>(current_block.shared.data());
  return reinterpret_cast<unsigned char*>((at + 127) / 128 * 128);
}

void wait_block() {
  ++self().barriers;
  leave();
}

void wait_warp() {
  ++self().warp_barriers;
  leave();
}

// Runs a kernel.
void launch(const std::function<void()>& body, Dimensions grid, Dimensions size, std::size_t shared, bool backwards) {
  Block& b = state();
  const std::size_t n = static_cast<std::size_t>(size.x) * static_cast<std::size_t>(size.y) * static_cast<std::size_t>(size.z);
  b.fibres.resize(n);
  b.shared.assign(shared + 128, 0);
  b.body = body;
  b.backwards = backwards;
  b.grid = grid;
  b.block_size = size;
  while (stacks.size() < n) {
    void* p = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("no memory for a fibre");
    stacks.push_back(static_cast<unsigned char*>(p));
  }
  const long long blocks = static_cast<long long>(grid.x) * grid.y * grid.z;
  for (long long i = 0; i < blocks; ++i) {
    const long long k = backwards ? blocks - 1 - i : i;
    b.block = {static_cast<int>(k % grid.x), static_cast<int>(k / grid.x % grid.y), static_cast<int>(k / grid.x / grid.y)};
    run_block();
  }
}

}  // namespace emulator
