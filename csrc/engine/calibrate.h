// The precision `fast`: which convolutions run in 16-bit integers, and with which scales. Decided once per model, from pictures made here, so that results
// depend on nothing but the model and the picture.
#pragma once
#include <memory>

#include "engine/plan.h"

namespace fastsr {

// The plan of a program in the precision `fast`. A convolution stays in floats where integers would not keep the result within kFastDecibels of the f32
// result on the calibration pictures. Without kernels for `fast` on this processor the plan is that of f32.
std::unique_ptr<Plan> make_fast_plan(const Program& program, const Kernels* kernels, const PlanOptions& options);

constexpr double kFastDecibels = 62;   // PSNR of the largest number that calibration sees; promised are 60
constexpr double kLargeDecibels = 63;  // PSNR of the results' range, that larger tiles than 4x4 must keep: stricter, for what they save

}  // namespace fastsr
