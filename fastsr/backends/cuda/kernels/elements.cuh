// Steps that make each element of their result of few elements of their inputs: a `Source` says of which. A thread makes one element.
#pragma once

#include "epilogue.cuh"

namespace fastsr {

constexpr int ELEMENT_THREADS = 256;

// Pointwise, and each input of a Concat.
struct Same {
  template <class T>
  static FASTSR_DEVICE float of(const Args& a, const Where& w) {
    return to_float(at<T>(a.in, w.n, w.y, w.x)[w.c]);
  }
};

// Resize of both axes by tables of `taps` pixels and factors for each row and column.
struct Resized {
  template <class T>
  static FASTSR_DEVICE float of(const Args& a, const Where& w) {
    const int* rows = a.rows + w.y * a.taps;
    const int* columns = a.columns + w.x * a.taps;
    float sum = 0.0f;
    for (int i = 0; i < a.taps; ++i) {
      float row = 0.0f;
      for (int j = 0; j < a.taps; ++j)
        row = fmaf(a.column_factors[w.x * a.taps + j], to_float(at<T>(a.in, w.n, rows[i], columns[j])[w.c]), row);
      sum = fmaf(a.row_factors[w.y * a.taps + i], row, sum);
    }
    return sum;
  }
};

// Pad: a pixel of the input, or the constant where the table has -1.
struct Padded {
  template <class T>
  static FASTSR_DEVICE float of(const Args& a, const Where& w) {
    const int y = a.rows[w.y], x = a.columns[w.x];
    return y < 0 || x < 0 ? a.constant : to_float(at<T>(a.in, w.n, y, x)[w.c]);
  }
};

template <bool Crd>
struct DepthToSpace {
  template <class T>
  static FASTSR_DEVICE float of(const Args& a, const Where& w) {
    const int b = a.block, part = w.y % b * b + w.x % b;
    const int c = Crd ? w.c * b * b + part : part * a.cout + w.c;
    return to_float(at<T>(a.in, w.n, w.y / b, w.x / b)[c]);
  }
};

struct SpaceToDepth {
  template <class T>
  static FASTSR_DEVICE float of(const Args& a, const Where& w) {
    const int b = a.block, part = w.c / a.cin, c = w.c % a.cin;
    return to_float(at<T>(a.in, w.n, w.y * b + part / b, w.x * b + part % b)[c]);
  }
};

// `count` channels from `first` on of the step's args.cout; those behind cout, which the result's pitch has room for, become zero.
// Grid: (elements / ELEMENT_THREADS, 1, batch).
template <class T, class Source, class Before, class Moved, class After>
FASTSR_KERNEL elements(const Args args) {
  const int width = args.x1 - args.x0, count = args.count;
  const long long element = static_cast<long long>(blockIdx.x) * ELEMENT_THREADS + threadIdx.x;
  if (element >= static_cast<long long>(args.y1 - args.y0) * width * count) return;
  const int c = static_cast<int>(element % count);
  const long long pixel = element / count;
  Where w{static_cast<int>(blockIdx.z), c, args.y0 + static_cast<int>(pixel / width), args.x0 + static_cast<int>(pixel % width)};
  if (args.first + c >= args.cout) {
    at<T>(args.out, w.n, w.y, w.x)[args.first + c] = from_float<T>(0.0f);
    return;
  }
  const float v = Source::template of<T>(args, w);
  w.c += args.first;
  store<T, Before, Moved, After>(v, args, w);
}

// `vectors` times 16 bytes of zeros from args.out on: for values whose pitch has room for more channels than the step that makes them writes.
template <class T>
FASTSR_KERNEL clear(const Args args) {
  const long long k = static_cast<long long>(blockIdx.x) * ELEMENT_THREADS + threadIdx.x;
  if (k < args.vectors) static_cast<Vector*>(args.out.data)[k] = Vector{{0, 0, 0, 0}};
}

// Part of a picture from float planes (N, C, H, W) to a value. The planes, args.in, hold just that part: pixel (y0, x0) is their first.
template <class T>
FASTSR_KERNEL pack(const Args args) {
  const int width = args.x1 - args.x0, height = args.y1 - args.y0, pitch = args.out.pitch;
  const long long element = static_cast<long long>(blockIdx.x) * ELEMENT_THREADS + threadIdx.x, area = static_cast<long long>(height) * width;
  if (element >= area * pitch) return;
  const int c = static_cast<int>(element % pitch), n = blockIdx.z;
  const long long pixel = element / pitch;
  const float* planes = static_cast<const float*>(args.in.data) + n * args.in.stride;
  const float v = c < args.in.channels ? planes[c * area + pixel] : 0.0f;
  at<T>(args.out, n, args.y0 + static_cast<int>(pixel / width), args.x0 + static_cast<int>(pixel % width))[c] = from_float<T>(v);
}

// Part of a value to float planes (N, C, H, W), which hold just that part.
template <class T>
FASTSR_KERNEL unpack(const Args args) {
  const int width = args.x1 - args.x0, height = args.y1 - args.y0;
  const long long element = static_cast<long long>(blockIdx.x) * ELEMENT_THREADS + threadIdx.x, area = static_cast<long long>(height) * width;
  if (element >= area * args.in.channels) return;
  const int n = blockIdx.z, c = static_cast<int>(element / area);
  const long long pixel = element % area;
  float* planes = static_cast<float*>(args.out.data) + n * args.out.stride;
  planes[element] = to_float(at<T>(args.in, n, args.y0 + static_cast<int>(pixel / width), args.x0 + static_cast<int>(pixel % width))[c]);
}

}  // namespace fastsr
