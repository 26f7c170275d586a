// The program as docs/fsr.md describes it, in memory: the portable form. plan.h makes the machine's form of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace fastsr {

enum class Kind : int { kConv = 1, kPointwise, kConcat, kResize, kPad, kDepthToSpace, kSpaceToDepth };

constexpr int kCodeRelu = 1, kCodePRelu = 3, kCodeAdd = 14, kCodeLastScalar = 21, kCodeDepthToSpace = 22, kCodeQuantize = 23, kCodeSqrt = 24;
constexpr int kMaxInputs = 64;  // of a program
constexpr int kMostLevel = 1 << 20;  // magnitude of a Quantize's bounds

// Numbers that nobody changes. Copies share them.
class Numbers {
 public:
  Numbers() = default;
  explicit Numbers(std::vector<float> numbers) : Numbers(std::make_shared<const std::vector<float>>(std::move(numbers))) {}
  // Numbers in memory that `owner` keeps; null: that outlives all copies.
  Numbers(const float* data, size_t size, std::shared_ptr<const void> owner) : owner_(std::move(owner)), data_(data), size_(size) {}

  const float* data() const { return data_; }
  size_t size() const { return size_; }
  const float* begin() const { return data_; }
  const float* end() const { return data_ + size_; }
  float operator[](size_t i) const { return data_[i]; }

 private:
  explicit Numbers(const std::shared_ptr<const std::vector<float>>& numbers) : Numbers(numbers->data(), numbers->size(), numbers) {}

  std::shared_ptr<const void> owner_;
  const float* data_ = nullptr;
  size_t size_ = 0;
};

struct Tensor {
  std::vector<int> dims;
  Numbers data;
};

struct Epilogue {
  int code = 0;
  int value = -1;   // index of a value, or -1
  int tensor = -1;  // index of a tensor, or -1
  double a = 0, b = 0;
};

struct ConvParams {
  int kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1, pt = 0, pl = 0, pb = 0, pr = 0, auto_pad = 0, group = 1;
};
struct ResizeParams {
  int mode = 0, coord = 0, nearest_mode = 0;
  double cubic_a = -0.75;
  bool exclude_outside = false;
  double scale_h = 1, scale_w = 1;
};
struct PadParams {
  int pt = 0, pl = 0, pb = 0, pr = 0, mode = 0;
  float value = 0;
};
struct ShuffleParams {
  int block = 1, mode = 0;  // mode: 0 DCR, 1 CRD
};

struct Step {
  Kind kind = Kind::kPointwise;
  std::string name;
  std::vector<int> in;
  int out = 0;
  ConvParams conv;
  ResizeParams resize;
  PadParams pad;
  ShuffleParams shuffle;
  int weight = -1, bias = -1;  // tensors
  int channels = 0;            // of the result before the epilogue
  std::vector<Epilogue> epilogue;

  int block() const {
    for (const Epilogue& e : epilogue)
      if (e.code == kCodeDepthToSpace) return static_cast<int>(e.a);
    return 1;
  }
};

struct ValueInfo {
  std::string name;
  int channels = 0;
};
struct OutputInfo {
  std::string name;
  int value = 0;
};

enum class Colour : int { kRaw = 0, kY, kBgr, kRgb };

struct Feed {
  Colour colour = Colour::kRaw;
  bool fine = false;  // Y of 8-bit pictures is not rounded to 8 bits
  int pre_scale = 1;
  double range = 1, out_range = 1;
  std::vector<double> mean, out_mean;
};

struct Program {
  Feed feed;
  std::vector<Tensor> tensors;
  std::vector<ValueInfo> values;
  std::vector<int> inputs;
  std::vector<OutputInfo> outputs;
  std::vector<Step> steps;
};

const char* kind_name(Kind kind);

}  // namespace fastsr
