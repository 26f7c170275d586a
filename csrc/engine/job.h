// One run of a model on one picture: its tiles handed out to threads, or a team of threads on one tile after the other.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/rows.h"
#include "engine/run.h"

namespace fastsr {

// Everything about a run that depends only on sizes and options. Schedules are made when the first tile of their band runs.
struct Prepared {
  Prepared(const Plan& plan, int height, int width, std::vector<int> outputs, const TilingOptions& options);

  bool fits(int height, int width, const std::vector<int>& outputs, const TilingOptions& options) const;
  const Schedule& schedule(size_t band) const;
  int64_t tiles() const { return static_cast<int64_t>(tiling.strips.size() * tiling.bands.size()); }

  const Net net;
  const Tiling tiling;
  const TilingOptions options;

 private:
  struct BandSchedule {
    std::mutex mutex;
    std::unique_ptr<Schedule> schedule;
  };
  const long pid_;
  mutable std::vector<BandSchedule> bands_;
};

class Job {
 public:
  // take(floats) hands out memory, perhaps less than that; give_back gets it back. Prints what it does and how long it took when FASTSR_DEBUG asks for it.
  Job(const Prepared& prepared, const std::vector<const Source*>& sources, const std::vector<Sink*>& sinks, const RunOptions& options,
      std::function<Workspace(size_t)> take, std::function<void(Workspace)> give_back);
  ~Job();

  void run();

 private:
  struct Slot;
  struct Turn;

  void run_tiles();
  void run_team();
  TileRunner& runner(int slot);
  float* room(Workspace& workspace, size_t floats);
  // Walks through a tile until the run is stopped; `act` does an action.
  void walk(const Schedule& schedule, int slot, const std::function<void(const Action&)>& act);
  void poll();
  // What `work` throws makes the other threads give up their tiles.
  void stopping(const std::function<void()>& work);
  void print_choice() const;
  std::vector<StepTime> times() const;
  void print_times(double wall) const;

  const Prepared& prepared_;
  const Net& net_;
  const RunOptions& options_;
  const std::function<Workspace(size_t)> take_;
  const std::function<void(Workspace)> give_back_;
  const std::vector<float> zeros_;
  const RunContext context_;
  int threads_;
  int64_t debug_ = 0;
  bool timed_ = false;
  std::vector<int64_t> order_;  // of the tiles
  std::vector<Slot> slots_;
  const int64_t total_;
  std::atomic<int64_t> done_{0};
  std::atomic<bool> stopped_{false};
  std::chrono::steady_clock::time_point polled_;
};

}  // namespace fastsr
