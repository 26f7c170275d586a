// Runs a model: pictures or arrays in, pictures or arrays out, tiles in parallel. Results do not depend on tiles, their order, chunks or threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/fsr_reader.h"
#include "engine/io.h"
#include "engine/plan.h"
#include "engine/tiling.h"

namespace fastsr {

// Memory that a thread keeps from tile to tile and, through the model, from run to run.
struct Workspace {
  AlignedFloats floats;
  size_t capacity = 0;
  size_t bytes() const { return capacity * sizeof(float); }
  // At least n floats; what they held is lost. generous: see aligned_floats. Throws Error(kMemory).
  float* room(size_t n, bool generous);
};

// What a step took: processor time of all threads, and the pixels of its result that were made (before a shuffle).
struct StepTime {
  double seconds = 0, pixels = 0;
};

struct RunOptions {
  int threads = 0;  // 0: get_num_threads()
  int tile = 0;     // edge in input pixels; 0: the engine's choice
  int chunk = 0;    // input rows that a tile advances by; 0: the engine's choice
  Teams teams = Teams::kAny;
  Calibration* calibration = nullptr;           // see RunContext; only with one thread
  std::vector<StepTime>* times = nullptr;       // filled: per step, then one entry for reading the input and one for writing the output
  bool quiet = false;                           // whatever FASTSR_DEBUG says
  // Called on the calling thread with (parts done, parts in all), 100 parts a tile, between tiles and about every 50 ms; false cancels: run throws
  // Error(kCancelled).
  std::function<bool(int64_t, int64_t)> progress;
};

struct Prepared;

// A model ready to run. May be used from several threads at once.
class Model {
 public:
  // `kernels` null: those in use (targets/cpu.h).
  explicit Model(const FsrBytes& fsr, const PlanOptions& options = {}, const Kernels* kernels = nullptr);
  ~Model();

  const Plan& plan() const { return *plan_; }

  // One source per input, all of one size; one sink per entry of `outputs`, which are indices into program.outputs.
  void run(const std::vector<const Source*>& sources, const std::vector<int>& outputs, const std::vector<Sink*>& sinks, const RunOptions& options) const;

  // Packs the weights, which otherwise the first run does. Throws what run() throws.
  void pack(const RunOptions& options) const;
  bool packed() const { return plan_->weights.made(); }

  // (H, W) of output number `output` for inputs of h x w. Throws Error(kPicture).
  Size output_size(int output, int h, int w) const;

  // Floating point operations of a run for one output, to judge how many threads it fills. Throws Error(kPicture).
  double flops(int output, int h, int w) const;

  // Floating point operations and bytes of working memory (rings and scratch) of one run for all outputs, to judge a file before running it.
  struct Cost {
    double flops, bytes;
    double rings, scratch;  // bytes: all rings; scratch of one thread
    int threads;            // that work
  };
  Cost cost(int h, int w, int tile, int threads = 1) const;

 private:
  std::shared_ptr<const Prepared> prepare(int h, int w, const std::vector<int>& outputs, const TilingOptions& options) const;
  Workspace take_workspace(size_t floats) const;
  void give_back(Workspace workspace) const;

  std::unique_ptr<Plan> plan_;
  mutable std::mutex mutex_;
  mutable std::vector<Workspace> idle_;
  mutable std::shared_ptr<const Prepared> last_;  // of the last run: the next is often of the same size
};

}  // namespace fastsr
