// The plan: a program made ready for this machine. Weights packed for the instruction set, epilogues mapped to what the kernels fuse. Never saved.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/packing.h"
#include "engine/program.h"
#include "kernels/fast.h"
#include "kernels/kernels.h"

namespace fastsr {

// Floats that all threads of a run may take together when the engine chooses the tiles: a network with many weights has them read for many rows at once.
constexpr double kRoom = static_cast<double>(size_t{61} << 20) / sizeof(float);
inline double room_floats(double weights) { return weights / 4 > kRoom ? weights / 4 : kRoom; }

// One epilogue entry as a pass over rows.
struct RowOp {
  int code = 0;
  int value = -1;
  std::vector<float> per_channel;  // the scalar operand of each channel (PRelu: slope); empty: a for all
  float a = 0, b = 0;
};

// Whether it computes in 16-bit integers.
inline bool is_fast(Algorithm a) { return a >= Algorithm::kWinograd16 && a <= Algorithm::kConv16Rows; }
// The tiles of winograd16; none: it is another algorithm.
inline Tile16 tile16(Algorithm a) {
  return a == Algorithm::kWinograd16 ? Tile16{4, 4} : a == Algorithm::kWinograd16x6x4 ? Tile16{6, 4} : a == Algorithm::kWinograd16x6 ? Tile16{6, 6} : Tile16{};
}
// Whether it reads pairs and nothing else.
inline bool reads_pairs(Algorithm a) { return a == Algorithm::kConv16 || a == Algorithm::kConv16Rows; }

// What is computed in: 32-bit floats, or where it is faster 16-bit integers with half floats or pairs of integers between the steps (kernels/fast.h), or
// in the integers that a quantised network consists of (int8.h).
// kAuto: these where the network is quantised, else floats.
enum class Precision : int { kF32, kFast, kInt8, kAuto };

// A run that measures what convolutions read, and results.
struct Calibration {
  std::vector<std::vector<InputRange>> ranges;  // by step, for each way in which it could run in integers
  std::vector<float> results;                   // by step: InputRange::result
};

struct StepPlan {
  Kind kind = Kind::kPointwise;
  Algorithm algorithm = Algorithm::kDirect;
  int block = 1, mode = 0;      // of the epilogue's DepthToSpace
  std::vector<RowOp> before;    // applied to the result row, before the shuffle
  std::vector<RowOp> after;     // applied to the rows after the shuffle
  Element element = Element::kFloat;  // of the rows of the step's value
  bool in_place = true;         // the kernel stores into the rows of the step's value, whatever their elements are
  // Rows (columns) of the result that are made together, any number as the algorithm wants it. Groups begin at the phase (phases.h) and every `group` rows
  // before and behind it; the picture's edges cut the first and the last.
  int row_group = 1, col_group = 1, row_phase = 0, col_phase = 0;
  // Conv only:
  int n_taps = 0, cin = 0, cout = 0;  // of one group of channels
  size_t packed_at = 0;     // in Plan::weights; where is_fast: of their own kinds
  size_t packed_group = 0;  // floats from one group of channels' weights to the next
  const float* bias = nullptr;
  Act act = Act::kNone;
  float a = 0, b = 0;
  std::vector<float> slope;
  int residual = -1;
  bool residual_first = false;
  std::vector<float> residual_scale;  // reads_pairs: as Conv16Row has it
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
  PackedWeights weights;
};

struct PlanOptions {
  Precision precision = Precision::kF32;
  // For a plan that is measured for `fast`: what winograd16 could compute is computed by winograd2d, a multiple of so many rows and columns together.
  int groups = 1;
  const Algorithm* algorithm = nullptr;  // for the convolutions that it can compute, whether it is the fastest or not; null: the fastest
};

// ranges: per step; of those that shall run in 16-bit integers what they read was seen. Empty: none. Weights are packed later: PackedWeights.
std::unique_ptr<Plan> make_plan(Program program, const Kernels* kernels, const PlanOptions& options, const std::vector<InputRange>& ranges = {});

// How a step shall run in 16-bit integers if the result stays close enough, from the fastest way to the most exact one: it can, and it is faster so or it
// was asked for.
std::vector<Algorithm> fast_algorithms(const Step& step, const StepPlan& plan, const PlanOptions& options);

}  // namespace fastsr
