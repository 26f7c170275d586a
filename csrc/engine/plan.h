// The plan: a program made ready for this machine. Weights packed for the instruction set, epilogues mapped to what the kernels fuse. Never saved.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/program.h"
#include "kernels/fast.h"
#include "kernels/kernels.h"

namespace fastsr {

struct AlignedFree {
  size_t alignment = 64;
  void operator()(float* p) const;
};
using AlignedFloats = std::unique_ptr<float[], AlignedFree>;

// `n` floats, aligned to a cache line (large ones to 2 MiB, in large pages where the system has them), uninitialised. Throws Error(kMemory).
AlignedFloats aligned_floats(size_t n);

// One epilogue entry as a pass over rows.
struct RowOp {
  int code = 0;
  int value = -1;
  std::vector<float> per_channel;  // the scalar operand of each channel (PRelu: slope); empty: a for all
  float a = 0, b = 0;
};

// How a convolution is computed.
enum class Algorithm : int { kDirect, kWinograd, kWinograd2d, kWinograd16 };

// What is computed in: 32-bit floats, or where it is faster 16-bit integers with half floats between the steps (kernels/fast.h).
enum class Precision : int { kF32, kFast };

// What a 3x3 convolution's transformed inputs were like when the network saw calibration pictures (kernels/fast.h); empty: it stays in floats.
struct InputRange {
  std::vector<float> largest;
  std::vector<double> squares;
  double tiles = 0;
};

// A run that measures what convolutions read.
struct Calibration {
  std::vector<char> steps;         // by step: whether it is measured
  std::vector<InputRange> ranges;  // by step
};

struct StepPlan {
  Kind kind = Kind::kPointwise;
  Algorithm algorithm = Algorithm::kDirect;
  int block = 1, mode = 0;      // of the epilogue's DepthToSpace
  std::vector<RowOp> before;    // applied to the result row, before the shuffle
  std::vector<RowOp> after;     // applied to the rows after the shuffle
  int row_group = 1, col_group = 1;  // rows (columns) of the result that are made together, at multiples of this in the picture: Winograd's algorithm
  // Conv only:
  int n_taps = 0, cin = 0, cout = 0;  // of one group of channels
  const float* packed = nullptr;  // kWinograd16: of its own kind
  size_t packed_group = 0;  // floats from one group of channels' weights to the next
  const float* bias = nullptr;
  Act act = Act::kNone;
  float a = 0, b = 0;
  std::vector<float> slope;
  int residual = -1;
  bool residual_first = false;
  double flops_per_pixel = 0;  // of the result, as a direct convolution counts them

  // What the step costs in operations of a direct convolution.
  double cost_per_pixel() const;

  std::string kernel(const Step& step) const;  // what runs, for people
};

struct Plan {
  Program program;
  const Kernels* kernels = nullptr;
  const FastKernels* fast = nullptr;  // where any step needs them
  std::vector<StepPlan> steps;        // one per program step
  std::vector<Element> elements;      // of each value's rows
  AlignedFloats weights;
};

struct PlanOptions {
  Precision precision = Precision::kF32;
  const Algorithm* algorithm = nullptr;  // for the convolutions that it can compute, whether it is the fastest or not; null: the fastest
};

// ranges: per step, for the steps that shall run in 16-bit integers; empty: none.
std::unique_ptr<Plan> make_plan(Program program, const Kernels* kernels, const PlanOptions& options, const std::vector<InputRange>& ranges = {});

// Whether a step shall run in 16-bit integers if the result stays close enough: it can, and it is faster so or they were asked for.
bool takes_winograd16(const Step& step, const StepPlan& plan, const PlanOptions& options);

}  // namespace fastsr
