// Float arrays in memory as sources and sinks of the engine: one image (C, H, W) with any strides between channels and lines. A source's pixels may
// also lie at any distance, 0 where a whole line is one number.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "engine/io.h"

namespace fastsr {

class ArraySource final : public Source {
 public:
  // Strides in floats.
  ArraySource(const float* data, int channels, int height, int width, ptrdiff_t channel, ptrdiff_t line, ptrdiff_t pixel = 1)
      : data_(data), c_(channels), h_(height), w_(width), channel_(channel), line_(line), pixel_(pixel) {}
  int height() const override { return h_; }
  int width() const override { return w_; }
  int channels() const override { return c_; }
  void read(int y, int x0, int n, float* dst, ptrdiff_t channel_stride, IoScratch*) const override {
    const float* src = data_ + y * line_ + x0 * pixel_;
    if (pixel_ == 1) {
      for (int c = 0; c < c_; ++c) std::memcpy(dst + c * channel_stride, src + c * channel_, static_cast<size_t>(n) * sizeof(float));
      return;
    }
    for (int c = 0; c < c_; ++c, src += channel_, dst += channel_stride) {
      if (pixel_ == 0) std::fill_n(dst, n, *src);
      else for (int i = 0; i < n; ++i) dst[i] = src[i * pixel_];
    }
  }

 private:
  const float* data_;
  int c_, h_, w_;
  ptrdiff_t channel_, line_, pixel_;
};

class ArraySink final : public Sink {
 public:
  ArraySink(float* data, int channels, ptrdiff_t channel, ptrdiff_t line) : data_(data), c_(channels), channel_(channel), line_(line) {}
  void write(int y, int x0, int n, float* src, ptrdiff_t channel_stride, IoScratch*) override {
    float* dst = data_ + y * line_ + x0;
    for (int c = 0; c < c_; ++c) std::memcpy(dst + c * channel_, src + c * channel_stride, static_cast<size_t>(n) * sizeof(float));
  }

 private:
  float* data_;
  int c_;
  ptrdiff_t channel_, line_;
};

}  // namespace fastsr
