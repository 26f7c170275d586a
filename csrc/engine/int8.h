// The precision `int8`: which convolutions of a program are of integers (docs/fsr.md says when), and how a plan computes them.
#pragma once
#include <vector>

#include "engine/plan.h"

namespace fastsr {

// The whole numbers that a value can hold.
struct Levels {
  bool known = false;
  double low = 0, high = 0;
  bool fit_bytes() const { return known && low <= 0 && high >= 0 && high - low < 256; }
};
std::vector<Levels> value_levels(const Program& program);

// By step.
std::vector<char> integer_convs(const Program& program, const std::vector<Levels>& levels);

// Whether there are any.
bool is_quantised(const Program& program);

// The bytes of packed weights, and these, of a step's weights w; groups of channels become one with zeros between them.
size_t conv8_bytes(const Plan& plan, size_t step);
void pack_conv8(const Plan& plan, size_t step, void* packed, const float* w);

constexpr double kMostConv8Bytes = 1 << 26;  // of the packed weights of all convolutions in groups: more can only come of very many groups

// Takes from the front of `before` what conv8 does itself.
void fuse_finish8(StepPlan& step, int channels);

// Sets the elements of values that are kept as bytes.
void choose_bytes(Plan& plan);

}  // namespace fastsr
