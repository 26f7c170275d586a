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

// `n` floats, aligned to a cache line, uninitialised; many of them in large pages where the system has these, which take up to 2 MiB more if `generous`.
// Throws Error(kMemory).
AlignedFloats aligned_floats(size_t n, bool generous = true);

// Floats that a generous one takes.
double generous_floats(double n);

// One epilogue entry as a pass over rows.
struct RowOp {
  int code = 0;
  int value = -1;
  std::vector<float> per_channel;  // the scalar operand of each channel (PRelu: slope); empty: a for all
  float a = 0, b = 0;
};

// How a convolution is computed.
enum class Algorithm : int { kDirect, kWinograd, kWinograd2d, kWinograd16, kConv16, kConv16Rows, kConv8 };

// Whether it computes in 16-bit integers.
inline bool is_fast(Algorithm a) { return a >= Algorithm::kWinograd16 && a <= Algorithm::kConv16Rows; }
// Whether it reads pairs and nothing else.
inline bool reads_pairs(Algorithm a) { return a == Algorithm::kConv16 || a == Algorithm::kConv16Rows; }

// What is computed in: 32-bit floats, or where it is faster 16-bit integers with half floats or pairs of integers between the steps (kernels/fast.h), or
// in the integers that a quantised network consists of (int8.h).
// kAuto: these where the network is quantised, else floats.
enum class Precision : int { kF32, kFast, kInt8, kAuto };

// What a convolution's inputs were like when the network saw calibration pictures: of kWinograd16 as Winograd16Range has it, of the others the numbers
// themselves, by channel. Nothing was seen: it stays in floats.
struct InputRange {
  std::vector<float> largest;   // magnitudes
  std::vector<double> squares;  // their sum
  double seen = 0;              // tiles or numbers
};

// A run that measures what convolutions read.
struct Calibration {
  std::vector<Algorithm> steps;    // by step: is_fast for those that are measured
  std::vector<InputRange> ranges;  // by step
};

struct StepPlan {
  Kind kind = Kind::kPointwise;
  Algorithm algorithm = Algorithm::kDirect;
  int block = 1, mode = 0;      // of the epilogue's DepthToSpace
  std::vector<RowOp> before;    // applied to the result row, before the shuffle
  std::vector<RowOp> after;     // applied to the rows after the shuffle
  Element element = Element::kFloat;  // of the rows of the step's value
  bool in_place = true;         // the kernel stores into the rows of the step's value, whatever their elements are
  // Rows (columns) of the result that are made together by Winograd's algorithm. Groups begin at the phase (phases.h) and every `group` rows before and
  // behind it; the picture's edges cut the first and the last.
  int row_group = 1, col_group = 1, row_phase = 0, col_phase = 0;
  // Conv only:
  int n_taps = 0, cin = 0, cout = 0;  // of one group of channels
  const float* packed = nullptr;  // where is_fast: of their own kinds
  size_t packed_group = 0;  // floats from one group of channels' weights to the next
  const float* bias = nullptr;
  Act act = Act::kNone;
  float a = 0, b = 0;
  std::vector<float> slope;
  int residual = -1;
  bool residual_first = false;
  // kConv8: Finish8 (kernels/int8.h) with act, a, b and slope.
  std::vector<float> scale, shift;
  bool quantize = false;
  float low = 0, high = 0, times = 1;
  double flops_per_pixel = 0;  // of the result, as a direct convolution counts them

  int group(int axis) const { return axis == 0 ? row_group : col_group; }
  int phase(int axis) const { return axis == 0 ? row_phase : col_phase; }

  // What the step costs in operations of a direct convolution.
  double cost_per_pixel() const;

  std::string kernel(const Step& step) const;  // what runs, for people
};

// PairScales of a value.
struct Pairs {
  std::vector<float> scale;
  float most = 0;
  PairScales scales() const { return {scale.data(), most}; }
};

struct Plan {
  Program program;
  const Kernels* kernels = nullptr;
  const FastKernels* fast = nullptr;  // where any step needs them
  std::vector<StepPlan> steps;        // one per program step
  std::vector<Element> elements;      // of each value's rows
  std::vector<Pairs> pairs;           // of each value that is kept so
  std::vector<float> least;           // of each value that conv8 reads, the smallest number that it can hold
  AlignedFloats weights;
  size_t weight_bytes = 0;
};

struct PlanOptions {
  Precision precision = Precision::kF32;
  const Algorithm* algorithm = nullptr;  // for the convolutions that it can compute, whether it is the fastest or not; null: the fastest
};

// ranges: per step, for the steps that shall run in 16-bit integers; empty: none.
std::unique_ptr<Plan> make_plan(Program program, const Kernels* kernels, const PlanOptions& options, const std::vector<InputRange>& ranges = {});

// How a step shall run in 16-bit integers if the result stays close enough: it can, and it is faster so or it was asked for. kDirect: not at all.
Algorithm fast_algorithm(const Step& step, const StepPlan& plan, const PlanOptions& options);

}  // namespace fastsr
