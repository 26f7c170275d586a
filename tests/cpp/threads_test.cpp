// The thread pool, and concurrent runs of one model. Meant for ThreadSanitizer, useful without. Usage: threads_test MODEL.fsr...
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/threads.h"
#include "engine/arrays.h"
#include "engine/picture.h"
#include "engine/run.h"
#include "include/fastsr.h"

using namespace fastsr;

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                \
      std::exit(1);                                                                       \
    }                                                                                     \
  } while (0)

namespace {

void each_unit_once() {
  for (int cap : {1, 2, 3, 8}) {
    std::vector<int> seen(1000, 0);
    std::vector<std::atomic<int>> inside(static_cast<size_t>(cap));
    parallel_for(1000, cap, [&](int64_t unit, int slot) {
      CHECK(slot >= 0 && slot < cap && inside[static_cast<size_t>(slot)].fetch_add(1) == 0);
      ++seen[static_cast<size_t>(unit)];
      inside[static_cast<size_t>(slot)].fetch_sub(1);
    });
    for (int n : seen) CHECK(n == 1);
  }
  parallel_for(0, 4, [](int64_t, int) { CHECK(false); });
}

void exceptions_arrive() {
  for (int64_t bad : {0, 7, 99}) {
    bool caught = false;
    try {
      parallel_for(100, 4, [&](int64_t unit, int) {
        if (unit == bad) throw std::runtime_error("unit " + std::to_string(unit));
      });
    } catch (const std::runtime_error& e) {
      caught = e.what() == "unit " + std::to_string(bad);
    }
    CHECK(caught);
  }
}

void nested_runs_serially() {
  std::atomic<int> sum{0};
  parallel_for(8, 4, [&](int64_t, int) {
    const auto me = std::this_thread::get_id();
    parallel_for(10, 4, [&](int64_t, int slot) {
      CHECK(slot == 0 && std::this_thread::get_id() == me);
      ++sum;
    });
  });
  CHECK(sum == 80);
}

void poll_is_called_and_cancels() {
  std::atomic<bool> release{false};
  int polls = 0;
  bool caught = false;
  try {
    parallel_for(
        2, 2,
        [&](int64_t, int slot) {
          while (slot != 0 && !release) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          if (slot == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        },
        [&] {
          if (++polls == 2) {
            release = true;
            throw std::runtime_error("enough");
          }
        });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  CHECK(caught == (polls == 2));  // the caller may have taken both units
}

void concurrent_callers() {
  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i)
    callers.emplace_back([i] {
      for (int round = 0; round < 30; ++round) {
        std::atomic<int64_t> sum{0};
        parallel_for(50 + i, 1 + i, [&](int64_t unit, int) { sum += unit; });
        CHECK(sum == int64_t{50 + i} * (49 + i) / 2);
        if (round % 10 == 0) set_num_threads(1 + round % 3);
      }
    });
  for (std::thread& t : callers) t.join();
  set_num_threads(0);
}

void background_tasks() {
  std::vector<std::thread> owners;
  for (int owner = 0; owner < 3; ++owner)
    owners.emplace_back([owner] {
      const int cap = 1 + owner;
      std::vector<int> seen(60, 0);
      std::atomic<int> inside{0}, wide{0}, beside{0};
      {
        Background tasks(cap);
        for (int i = 0; i < 60; ++i) {
          const bool all = i % 7 == 3;
          CHECK(tasks.add(
                    [&, i, all] {
                      CHECK(++inside <= cap);
                      if (all) CHECK(++wide == 1);
                      std::atomic<int64_t> sum{0};
                      const auto me = std::this_thread::get_id();
                      parallel_for(40, 3, [&](int64_t unit, int slot) {
                        if (!all) CHECK(slot == 0 && std::this_thread::get_id() == me);
                        sum += unit;
                      });
                      CHECK(sum == 780);
                      ++seen[static_cast<size_t>(i)];
                      if (all) --wide;
                      --inside;
                    },
                    all) == i);
          if (i < 10) continue;
          tasks.wait(i - 10, [] {});
          CHECK(seen[static_cast<size_t>(i - 10)] == 1);
          parallel_for(5, 2, [&](int64_t, int) { ++beside; });
        }
        while (!tasks.done(59)) std::this_thread::yield();
        tasks.wait(59, [] { CHECK(false); });
      }
      CHECK(inside == 0 && beside == 250);
    });
  for (std::thread& t : owners) t.join();
}

void background_gives_up() {
  std::atomic<int> begun{0};
  std::atomic<bool> stop{false};
  {
    Background tasks(2);
    for (int i = 0; i < 9; ++i) tasks.add([&] { for (++begun; !stop;) std::this_thread::sleep_for(std::chrono::milliseconds(1)); }, false);
    bool caught = false;
    try {
      tasks.wait(0, [] { throw std::runtime_error("enough"); });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught && !tasks.done(0));
    stop = true;
  }
  const int before = begun;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(begun == before);
}

void concurrent_upscales(const char* path, Precision precision) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  PlanOptions plan;
  plan.precision = precision;
  const Model alone({bytes.data(), bytes.size()}, plan), model({bytes.data(), bytes.size()}, plan);
  const int h = 33, w = 147;
  const Size size = model.output_size(0, h, w);
  std::vector<uint8_t> picture(static_cast<size_t>(3 * h * w));
  for (size_t i = 0; i < picture.size(); ++i) picture[i] = static_cast<uint8_t>(i * 37);
  const Feed& feed = model.plan().program.feed;
  PictureView in;
  in.data = picture.data(), in.height = h, in.width = w, in.channels = 3, in.row_bytes = 3 * w, in.pixel_bytes = 3, in.channel_bytes = 1;
  const auto upscaled = [&](const Model& by, int threads, int tile, Teams teams) {
    std::vector<uint8_t> result(static_cast<size_t>(3 * size.h * size.w));
    PictureView out = in;
    out.data = result.data(), out.height = size.h, out.width = size.w, out.row_bytes = 3 * size.w;
    const std::unique_ptr<Source> source = make_picture_source(in, feed);
    const std::unique_ptr<Sink> sink = make_picture_sink(out, in, feed);
    RunOptions options;
    options.threads = threads, options.tile = tile, options.teams = teams;
    options.progress = [](int64_t done, int64_t total) { return done <= total; };
    by.run({source.get()}, {0}, {sink.get()}, options);
    return result;
  };
  const std::vector<uint8_t> expected = upscaled(alone, 1, 0, Teams::kAny);
  const auto upscale = [&](int threads, int tile, Teams teams) { return upscaled(model, threads, tile, teams); };  // the first ones pack the weights
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&, i] {
      for (int round = 0; round < 3; ++round) CHECK(upscale(1 + i % 3, i % 2 ? 0 : 8 + 5 * i, i % 2 ? Teams::kAlways : Teams::kNone) == expected);
    });
  for (Teams teams : {Teams::kNone, Teams::kAlways}) callers.emplace_back([&, teams] {  // one that gives up, beside the others
    bool cancelled = false;
    const std::vector<float> x(static_cast<size_t>(h * w), 0.5f);
    std::vector<float> y(static_cast<size_t>(size.h) * static_cast<size_t>(size.w));
    const ArraySource source(x.data(), 1, h, w, ptrdiff_t{h} * w, w);
    ArraySink sink(y.data(), 1, ptrdiff_t{size.h} * size.w, size.w);
    RunOptions options;
    options.threads = 3, options.tile = 8, options.teams = teams;
    options.progress = [](int64_t, int64_t) { return false; };
    try {
      model.run({&source}, {0}, {&sink}, options);
    } catch (const Error& e) {
      cancelled = e.kind == ErrorKind::kCancelled;
    }
    CHECK(cancelled);
  });
  {
    Background tasks(2);
    for (int i = 0; i < 8; ++i) tasks.add([&, i] { CHECK(upscale(i % 4 ? 1 : 2, 0, Teams::kAny) == expected); }, i % 4 == 0);
    for (int i = 0; i < 8; ++i) tasks.wait(i, [] {});
  }
  for (std::thread& t : callers) t.join();
}

// Pictures from several threads through the C interface, one thread each or all the pool's; errors belong to the thread.
void concurrent_c_calls(const char* path) {
  fastsr_model* model = nullptr;
  CHECK(fastsr_open_file(path, &model) == FASTSR_OK);
  fastsr_info info;
  CHECK(fastsr_get_info(model, &info) == FASTSR_OK);
  const int h = 40, w = 51;
  int32_t out_h = 0, out_w = 0;
  CHECK(fastsr_output_size(model, 0, h, w, &out_h, &out_w) == FASTSR_OK);
  const auto pixels = static_cast<size_t>(out_h) * static_cast<size_t>(out_w);
  for (int threads : {1, 3}) {
    CHECK(fastsr_set_threads(threads) == FASTSR_OK);
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i)
      callers.emplace_back([&, i] {
        std::vector<uint8_t> picture(static_cast<size_t>(3 * h * w)), first(3 * pixels), result(3 * pixels);
        for (size_t k = 0; k < picture.size(); ++k) picture[k] = static_cast<uint8_t>(k * static_cast<size_t>(7 + i));
        for (int round = 0; round < 5; ++round) {
          std::vector<uint8_t>& out = round ? result : first;
          CHECK(fastsr_upscale(model, picture.data(), h, w, 3, 3 * w, out.data(), 3 * out_w, nullptr, nullptr) == FASTSR_OK);
          CHECK(round == 0 || result == first);
          CHECK(fastsr_upscale(model, picture.data(), h, w, i % 2 ? 2 : 3, 3 * w, out.data(), 1, nullptr, nullptr) != FASTSR_OK);
          CHECK(std::strstr(fastsr_last_error(), i % 2 ? "channel" : "overlap"));
        }
      });
    for (std::thread& t : callers) t.join();
  }
  CHECK(fastsr_set_threads(0) == FASTSR_OK);
  fastsr_close(model);
}

}  // namespace

int main(int argc, char** argv) {
  each_unit_once();
  exceptions_arrive();
  nested_runs_serially();
  poll_is_called_and_cancels();
  concurrent_callers();
  background_tasks();
  background_gives_up();
  for (int i = 1; i < argc; ++i) concurrent_c_calls(argv[i]);
  for (int i = 1; i < argc; ++i)
    for (Precision precision : {Precision::kF32, Precision::kFast}) concurrent_upscales(argv[i], precision);
  std::puts("ok");
  return 0;
}
