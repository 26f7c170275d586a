// The weights of a plan as its kernels read them. They take several times the memory of the file, and looking at a model, saving it or cutting a picture
// needs none of them: so they are made by the first run.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "engine/program.h"

namespace fastsr {

struct Plan;

struct AlignedFree {
  size_t alignment = 64;
  void operator()(float* p) const;
};
using AlignedFloats = std::unique_ptr<float[], AlignedFree>;

// `n` floats, aligned to a cache line, uninitialised; many of them in large pages where the system has these, which take up to 2 MiB more if `generous`.
// Throws Error(kMemory).
AlignedFloats aligned_floats(size_t n, bool generous = true);

// Floats that a generous one takes.
double generous_floats(double n);

// How a convolution is computed. kWinograd2d and kWinograd6x6: the kernel winograd2d with tiles of 4x4 and 6x6; kWinograd16, kWinograd16x6x4 and
// kWinograd16x6: winograd16 with tiles of 4x4, 6x4 and 6x6 rows and columns.
enum class Algorithm : int { kDirect, kWinograd, kWinograd2d, kWinograd6x6, kWinograd16, kWinograd16x6x4, kWinograd16x6, kConv16, kConv16Rows, kConv8 };

// What a convolution's inputs, and any step's results, were like when the network saw calibration pictures. The inputs: of winograd16 as Winograd16Range
// has it, of the others the numbers themselves, by channel. Nothing was seen of them: it stays in floats.
struct InputRange {
  Algorithm algorithm = Algorithm::kDirect;  // for which it was measured
  std::vector<float> largest;   // magnitudes
  std::vector<double> squares;  // their sum
  double seen = 0;              // tiles or numbers
  float result = 0;             // of the step's result, of any step, the largest magnitude; NaN if there was any
};

class PackedWeights {
 public:
  // Weights of a step, to be packed at its StepPlan::packed_at.
  struct Item {
    size_t step;
    Numbers weights;
    InputRange range;  // where is_fast
  };

  void set(std::vector<Item> items, size_t floats);

  size_t bytes() const { return floats_ * sizeof(float); }

  // Packs the weights on up to `threads` threads, 0: get_num_threads(), unless they are packed. Any number of threads may call this at once: one packs,
  // the others wait. `poll` is called meanwhile on the calling thread. What it throws, and Error(kMemory), leave everything as it was: the next call packs.
  void make(const Plan& plan, int threads, const std::function<void()>& poll = {}) const;

  bool made() const { return made_.load(std::memory_order_acquire); }

  // After make().
  const float* at(size_t place) const { return weights_.get() + place; }

 private:
  void pack(const Plan& plan, int threads, const std::function<void()>& poll) const;

  size_t floats_ = 0;
  mutable std::vector<Item> items_;  // until they are packed
  mutable AlignedFloats weights_;
  mutable std::atomic<bool> made_{false};
  mutable std::atomic<long> packing_{0};  // the process whose thread packs, 0: nobody does
};

}  // namespace fastsr
