// Where values lie, and what every kernel is given.
//
// A value is a part of a picture in NHWC: pixel after pixel, `pitch` elements each, of type T (float or half). Kernels count pixels from the whole
// picture's corner, whatever part of it is in memory, so a pixel is the same sequence of operations in every tiling.
#pragma once

#include "device.cuh"

namespace fastsr {

// A part of a value, rows y0..y1 and columns x0..x1 of a picture of height x width.
struct View {
  void* data;
  long long stride;  // elements from one picture of the batch to the next
  int pitch, channels;
  int height, width;
  int y0, x0, y1, x1;
};

// What an operation of an epilogue needs: another value, one number for each channel, or two numbers.
struct Slot {
  View value;
  const float* tensor;
  float a, b;
};

constexpr int SLOTS = 12;

struct Args {
  View in, out;
  const void* weight;
  const float* bias;
  const int* rows;           // tables of Resize and Pad: which pixels, and their factors
  const int* columns;
  const float* row_factors;
  const float* column_factors;
  int y0, x0, y1, x1;        // what is to be made, in pixels before a shuffle
  int cin, cout;             // of one group of a convolution; of the step's result before a shuffle
  int kh, kw, sh, sw, dh, dw, pt, pl, group;
  int first, count;          // channels of the result that `elements` makes
  int taps, block;           // of Resize; of DepthToSpace and SpaceToDepth
  int tiles, tiles_x, chunks;  // of conv_mma: tiles of a picture, of a row; blocks of input channels
  float constant;
  long long vectors;         // of clear
  Slot slots[SLOTS];
};

// 16 bytes, moved at once.
struct alignas(16) Vector {
  unsigned word[4];
};

// A place in a step's result.
struct Where {
  int n, c, y, x;
};

template <class T>
FASTSR_DEVICE T* at(const View& v, int n, int y, int x) {
  FASTSR_CHECK(y >= v.y0 && y < v.y1 && x >= v.x0 && x < v.x1);
  long long pixel = static_cast<long long>(y - v.y0) * (v.x1 - v.x0) + (x - v.x0);
  return static_cast<T*>(v.data) + n * v.stride + pixel * v.pitch;
}

// The pixel's channel c, 0 outside the picture.
template <class T>
FASTSR_DEVICE float padded(const View& v, int n, int c, int y, int x) {
  bool inside = y >= 0 && y < v.height && x >= 0 && x < v.width;
  return inside ? to_float(at<T>(v, n, y, x)[c]) : 0.0f;
}

}  // namespace fastsr
