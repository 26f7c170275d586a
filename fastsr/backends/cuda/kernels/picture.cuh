// 8-bit pictures: what the network reads of them, and the picture that its result stands for, colour and chroma included. The arithmetic, bit for bit,
// is that of fastsr/image.py.
#pragma once

#include "elements.cuh"

namespace fastsr {

// How a picture and the network's channels go together: args.count.
enum PictureMode {
  GREY_TO_Y = 0,
  BGR_TO_Y = 1,
  GREY_TO_COLOUR = 2,
  BGR_TO_BGR = 3,
  BGR_TO_RGB = 4,
  BGR_TO_FINE_Y = 5,
};

FASTSR_DEVICE int luma(int b, int g, int r) { return (4899 * r + 9617 * g + 1868 * b + 8192) >> 14; }

FASTSR_DEVICE float fine_luma(int b, int g, int r) {
  return fmaf(static_cast<float>(b), 0.114f, fmaf(static_cast<float>(g), 0.587f, static_cast<float>(r) * 0.299f));
}

FASTSR_DEVICE int saturated(int v) { return v < 0 ? 0 : v > 255 ? 255 : v; }

// In 0..255, 0 for NaN.
FASTSR_DEVICE float clipped(float v) { return v > 0.0f ? fminf(v, 255.0f) : 0.0f; }

// The same rounded half to even.
FASTSR_DEVICE int to_byte(float v) { return static_cast<int>(rintf(clipped(v))); }

// The same cut off to a whole number.
FASTSR_DEVICE unsigned char cut(float v) { return static_cast<unsigned char>(clipped(v)); }

FASTSR_DEVICE const unsigned char* picture_at(const View& v, int y, int x) {
  return static_cast<const unsigned char*>(v.data) + y * v.stride + static_cast<long long>(x) * v.pitch;
}

// The thread's pixel of what is to be made; whether there is one.
FASTSR_DEVICE bool own_pixel(const Args& args, int& y, int& x) {
  const int width = args.x1 - args.x0;
  const long long pixel = static_cast<long long>(blockIdx.x) * ELEMENT_THREADS + threadIdx.x;
  y = args.y0 + static_cast<int>(pixel / width), x = args.x0 + static_cast<int>(pixel % width);
  return y < args.y1;
}

// A part of a picture (rows `stride` bytes apart, `pitch` channels) to a value: times `constant`, less the mean of each channel, slots[c].a.
template <class T>
FASTSR_KERNEL read_picture(const Args args) {
  int y, x;
  if (!own_pixel(args, y, x)) return;
  const unsigned char* p = picture_at(args.in, y, x);
  T* to = at<T>(args.out, 0, y, x);
  for (int c = 0; c < args.out.channels; ++c) {
    int v = p[0];
    if (args.count == BGR_TO_Y) v = luma(p[0], p[1], p[2]);
    if (args.count == BGR_TO_BGR) v = p[c];
    if (args.count == BGR_TO_RGB) v = p[2 - c];
    const float level = args.count == BGR_TO_FINE_Y ? fine_luma(p[0], p[1], p[2]) : static_cast<float>(v);
    to[c] = from_float<T>(level * args.constant - args.slots[c].a);
  }
  for (int c = args.out.channels; c < args.out.pitch; ++c) to[c] = from_float<T>(0.0f);
}

struct Chroma {
  float cr, cb;
};

FASTSR_DEVICE Chroma chroma_of(const View& picture, int y, int x) {
  const unsigned char* p = picture_at(picture, y, x);
  const int b = p[0], r = p[2], l = luma(b, p[1], r);
  const int cr = saturated(((r - l) * 11682 + ((128 << 14) + 8192)) >> 14), cb = saturated(((b - l) * 9241 + ((128 << 14) + 8192)) >> 14);
  constexpr float UNIT = static_cast<float>(1.0 / 255.0);
  return {static_cast<float>(cr) * UNIT, static_cast<float>(cb) * UNIT};
}

FASTSR_DEVICE Chroma between(Chroma a, Chroma b, float f) { return {fmaf(b.cr - a.cr, f, a.cr), fmaf(b.cb - a.cb, f, a.cb)}; }

// A part of a value to a picture: channel c plus its mean, slots[c].a, times `constant`. Of a Y network the chroma is that of the picture before,
// slots[0].value, enlarged bilinearly: `rows` and `columns` have two pixels for each row and column, the factors the weight of the second.
template <class T>
FASTSR_KERNEL write_picture(const Args args) {
  int y, x;
  if (!own_pixel(args, y, x)) return;
  const T* from = at<T>(args.in, 0, y, x);
  unsigned char* to = const_cast<unsigned char*>(picture_at(args.out, y, x));
  int v[3] = {0, 0, 0};
  for (int c = 0; c < 3; ++c)
    if (c < args.in.channels) v[c] = to_byte((to_float(from[c]) + args.slots[c].a) * args.constant);
  switch (args.count) {
    case GREY_TO_Y:
      to[0] = static_cast<unsigned char>(v[0]);
      break;
    case GREY_TO_COLOUR:
      to[0] = static_cast<unsigned char>(args.first ? luma(v[2], v[1], v[0]) : luma(v[0], v[1], v[2]));
      break;
    case BGR_TO_Y:
    case BGR_TO_FINE_Y: {
      const View& before = args.slots[0].value;
      const int *rows = args.rows + 2 * y, *columns = args.columns + 2 * x;
      const float fx = args.column_factors[x];
      const Chroma upper = between(chroma_of(before, rows[0], columns[0]), chroma_of(before, rows[0], columns[1]), fx);
      const Chroma lower = between(chroma_of(before, rows[1], columns[0]), chroma_of(before, rows[1], columns[1]), fx);
      const Chroma mixed = between(upper, lower, args.row_factors[y]);
      const int cr = to_byte(mixed.cr * 255.0f) - 128, cb = to_byte(mixed.cb * 255.0f) - 128;
      if (args.count == BGR_TO_FINE_Y) {
        constexpr float UNIT = 1.0f / 16384;
        const float l = clipped((to_float(from[0]) + args.slots[0].a) * args.constant);
        const float red = static_cast<float>(cr + 128), blue = static_cast<float>(cb + 128);
        to[0] = cut(fmaf(blue, 29049 * UNIT, l + (0.5f - 128 * 29049 * UNIT)));
        to[1] = cut(fmaf(blue, -5636 * UNIT, fmaf(red, -11698 * UNIT, l + (0.5f + 128 * (5636 + 11698) * UNIT))));
        to[2] = cut(fmaf(red, 22987 * UNIT, l + (0.5f - 128 * 22987 * UNIT)));
        break;
      }
      to[0] = static_cast<unsigned char>(saturated(v[0] + ((29049 * cb + 8192) >> 14)));
      to[1] = static_cast<unsigned char>(saturated(v[0] + ((-5636 * cb - 11698 * cr + 8192) >> 14)));
      to[2] = static_cast<unsigned char>(saturated(v[0] + ((22987 * cr + 8192) >> 14)));
      break;
    }
    default:
      for (int c = 0; c < 3; ++c) to[args.count == BGR_TO_RGB ? 2 - c : c] = static_cast<unsigned char>(v[c]);
  }
}

}  // namespace fastsr
