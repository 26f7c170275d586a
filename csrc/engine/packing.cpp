#include "engine/packing.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "base/error.h"
#include "base/threads.h"
#include "engine/elements.h"
#include "engine/int8.h"
#include "targets/fast.h"

namespace fastsr {

namespace {
constexpr size_t kLargePage = size_t{2} << 20, kLarge = size_t{256} << 10;  // from kLarge bytes on it pays
}

void AlignedFree::operator()(float* p) const { ::operator delete[](p, std::align_val_t{alignment}); }

double generous_floats(double n) {
  constexpr double page = static_cast<double>(kLargePage) / sizeof(float);
  return n * sizeof(float) >= static_cast<double>(kLarge) ? std::ceil(n / page) * page : n;
}

AlignedFloats aligned_floats(size_t n, bool generous) {
  if (n > std::numeric_limits<size_t>::max() / 4 / sizeof(float)) throw Error(ErrorKind::kMemory, "not enough memory");
  size_t bytes = n * sizeof(float), alignment = 64;
  if (bytes >= (generous ? kLarge : 2 * kLargePage)) alignment = kLargePage;
  if (generous && alignment == kLargePage) bytes = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  void* p = ::operator new[](bytes, std::align_val_t{alignment}, std::nothrow);
  if (!p) throw Error(ErrorKind::kMemory, "not enough memory: " + std::to_string(bytes >> 20) + " MiB wanted");
#if defined(__linux__)
  if (alignment == kLargePage) madvise(p, bytes / kLargePage * kLargePage, MADV_HUGEPAGE);  // only a wish
#endif
  return AlignedFloats(static_cast<float*>(p), AlignedFree{alignment});
}

namespace {

void pack_fast(const Plan& plan, size_t i, float* packed, const float* w, InputRange range) {
  const StepPlan& s = plan.steps[i];
  const Step& step = plan.program.steps[i];
  const Pairs &in = plan.pairs[static_cast<size_t>(step.in[0])], &out = plan.pairs[static_cast<size_t>(step.out)];
  if (reads_pairs(s.algorithm)) {
    const auto pack = s.algorithm == Algorithm::kConv16 ? plan.fast->conv16_pack : plan.fast->conv16_rows_pack;
    pack(packed, w, s.cout, s.cin, step.conv.kh, step.conv.kw, s.bias, in.scales(), s.in_place && out.most > 0 ? out.scale.data() : nullptr);
    return;
  }
  const auto cin = static_cast<size_t>(s.cin);
  for (size_t at = 0; at < range.largest.size(); at += cin) widen(range.largest.data() + at, cin);
  const float* scale = in.most > 0 ? in.scale.data() : nullptr;
  winograd16_of(*plan.fast, tile16(s.algorithm)).pack(packed, w, s.cout, s.cin, {range.largest.data(), range.squares.data(), range.seen}, kMargin, scale);
}

// One step's weights, as its kernel reads them.
void pack_step(const Plan& plan, const PackedWeights::Item& item, float* packed) {
  const Step& step = plan.program.steps[item.step];
  const StepPlan& s = plan.steps[item.step];
  const float* w = item.weights.data();
  if (s.algorithm == Algorithm::kConv8) return pack_conv8(plan, item.step, packed, w);
  if (is_fast(s.algorithm)) return pack_fast(plan, item.step, packed, w, item.range);
  if (s.algorithm == Algorithm::kWinograd) return plan.kernels->winograd_pack(packed, w, s.cout, s.cin, step.conv.kh);
  if (s.algorithm == Algorithm::kWinograd2d || s.algorithm == Algorithm::kWinograd6x6)
    return plan.kernels->winograd2d_pack(s.row_group, packed, w, s.cout, s.cin);
  const size_t dense_group = static_cast<size_t>(s.cout) * static_cast<size_t>(s.cin) * static_cast<size_t>(s.n_taps);
  for (size_t g = 0; g < static_cast<size_t>(step.conv.group); ++g)
    plan.kernels->conv_pack(packed + g * s.packed_group, w + g * dense_group, s.cout, s.cin, s.n_taps);
}

}  // namespace

void PackedWeights::set(std::vector<Item> items, size_t floats) {
  items_ = std::move(items);
  floats_ = floats;
}

void PackedWeights::make(const Plan& plan, int threads, const std::function<void()>& poll) const {
  while (!made()) {
    long packing = packing_.load();
    // Another process: its fork left the thread that packs behind.
    if (packing != process_id() && packing_.compare_exchange_strong(packing, process_id())) {
      struct Release {
        std::atomic<long>& packing;
        ~Release() { packing = 0; }
      } release{packing_};
      if (!made()) pack(plan, threads, poll);
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (poll) poll();
  }
}

void PackedWeights::pack(const Plan& plan, int threads, const std::function<void()>& poll) const {
  AlignedFloats weights = aligned_floats(floats_);
  parallel_for(static_cast<int64_t>(items_.size()), threads, [&](int64_t unit, int slot) {
    if (slot == 0 && poll) poll();
    const Item& item = items_[static_cast<size_t>(unit)];
    pack_step(plan, item, weights.get() + plan.steps[item.step].packed_at);
  }, poll);
  weights_ = std::move(weights);
  made_.store(true, std::memory_order_release);
  std::vector<Item>().swap(items_);
}

}  // namespace fastsr
