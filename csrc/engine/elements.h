// How the precision `fast` keeps values between steps: floats, half floats or pairs of 16-bit integers; or, in the precision `int8`, bytes.
#pragma once
#include <vector>

#include "engine/plan.h"

namespace fastsr {

// Of each value: whether some step reads pairs of it, and nothing needs it in another form than pairs.
std::vector<char> possible_pairs(const Plan& plan);

// Sets elements and pairs of all values, and in_place of all steps. Inputs of steps that read pairs must be possible_pairs. ranges: of all steps, or empty
// where none is is_fast.
void choose_elements(Plan& plan, const std::vector<InputRange>& ranges);

// Real pictures drive channels further than calibration did, above all those that it hardly touched: the room beyond the largest number that was seen,
// and the least of a channel next to the largest of all. Much less cuts off visibly (up to 60 levels on Set14), much more loses bits.
constexpr float kMargin = 2.0f;
void widen(float* largest, size_t channels);

}  // namespace fastsr
