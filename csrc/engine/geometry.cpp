#include "engine/geometry.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fastsr {
namespace {

constexpr float kExact = 1 << 24;  // below it float32 holds every whole number

std::string dims(int64_t h, int64_t w) { return std::to_string(w) + "x" + std::to_string(h); }

Span inside(int64_t lo, int64_t hi, int n) {
  return {static_cast<int>(std::clamp<int64_t>(lo, 0, n - 1)), static_cast<int>(std::clamp<int64_t>(hi, 1, n))};
}

// How many pixels a Resize makes of n: rounded down after a product in float32, as ONNX Runtime has it, where float32 counts pixels.
int64_t resized(int n, double scale) {
  const float size = static_cast<float>(n) * static_cast<float>(scale);
  return static_cast<int64_t>(size < kExact ? std::floor(size) : std::floor(n * scale));
}

double resize_position(int i, double scale, int n_in, int n_out, int coord) {
  switch (coord) {
    case 1: return n_out == 1 ? 0.0 : static_cast<double>(i) * (n_in - 1) / (n_out - 1);
    case 2: return i / scale;
    case 3: return n_out == 1 ? 0.0 : (i + 0.5) / scale - 0.5;
    case 4: return n_in / 2.0 * (1 - n_out / (scale * n_in)) + (i + 0.5) / scale - 0.5;
    case 5: return (i + 0.5) / scale;
    default: return (i + 0.5) / scale - 0.5;
  }
}

}  // namespace

ConvAxis conv_axis(const ConvParams& p, int axis, int n_in) {
  ConvAxis a = axis == 0 ? ConvAxis{p.kh, p.sh, p.dh, p.pt} : ConvAxis{p.kw, p.sw, p.dw, p.pl};
  if (p.auto_pad) {
    const int64_t out = (int64_t{n_in} + a.stride - 1) / a.stride;
    const int64_t total = std::max<int64_t>((out - 1) * a.stride + int64_t{a.kernel - 1} * a.dilation + 1 - n_in, 0);
    a.pad = static_cast<int>(p.auto_pad == 1 ? total / 2 : total - total / 2);
  }
  return a;
}

int pad_source(const PadParams& p, int axis, int n_in, int i) {
  const int n = n_in;
  int s = i - (axis == 0 ? p.pt : p.pl);
  if (s >= 0 && s < n) return s;
  switch (p.mode) {
    case 1: s = s < 0 ? -s : 2 * (n - 1) - s; break;
    case 2: s = s < 0 ? 0 : n - 1; break;
    case 3: s = s < 0 ? -s - 1 : 2 * n - 1 - s; break;
    default: return -1;
  }
  return std::clamp(s, 0, n - 1);
}

int resize_taps(const ResizeParams& p, int axis, int n_in, int n_out, int i, int* index, float* coef) {
  const double scale = axis == 0 ? p.scale_h : p.scale_w;
  const double x = resize_position(i, scale, n_in, n_out, p.coord), base = std::floor(x), f = x - base, a = p.cubic_a;
  int first = static_cast<int>(base), n = 1;
  double c[kMaxResizeTaps] = {1, 0, 0, 0};
  if (p.mode == 0) {
    switch (p.nearest_mode) {
      case 0: first = static_cast<int>(std::ceil(x - 0.5)); break;
      case 1: first = static_cast<int>(std::floor(x + 0.5)); break;
      case 3: first = static_cast<int>(std::ceil(x)); break;
      default: break;
    }
  } else if (p.mode == 1) {
    n = 2;
    c[0] = 1 - f, c[1] = f;
  } else {
    n = 4, --first;
    const auto near = [a](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
    const auto far = [a](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
    c[0] = far(f + 1), c[1] = near(f), c[2] = near(1 - f), c[3] = far(2 - f);
  }
  double total = 1;
  if (p.exclude_outside && p.mode != 0) {
    total = 0;
    for (int t = 0; t < n; ++t) total += first + t >= 0 && first + t < n_in ? c[t] : (c[t] = 0);
    if (total == 0) total = 1;
  }
  for (int t = 0; t < n; ++t) {
    index[t] = std::clamp(first + t, 0, n_in - 1);
    coef[t] = static_cast<float>(c[t] / total);
  }
  return n;
}

Span input_span(const Step& step, int axis, int n_in, int n_out, Span out) {
  switch (step.kind) {
    case Kind::kConv: {
      const ConvAxis a = conv_axis(step.conv, axis, n_in);
      return inside(a.first(out.lo), a.last(out.hi - 1) + 1, n_in);
    }
    case Kind::kResize: {
      int index[kMaxResizeTaps];
      float coef[kMaxResizeTaps];
      resize_taps(step.resize, axis, n_in, n_out, out.lo, index, coef);
      const int lo = index[0];
      const int n = resize_taps(step.resize, axis, n_in, n_out, out.hi - 1, index, coef);
      return {lo, index[n - 1] + 1};
    }
    case Kind::kPad: {
      const int before = axis == 0 ? step.pad.pt : step.pad.pl;
      Span s{n_in, 0};
      // Below, inside and above the picture the source moves monotonically, so the ends of the three parts tell all.
      const int64_t cut[4] = {out.lo, std::clamp<int64_t>(before, out.lo, out.hi), std::clamp<int64_t>(int64_t{before} + n_in, out.lo, out.hi), out.hi};
      for (int part = 0; part < 3; ++part) {
        if (cut[part] >= cut[part + 1]) continue;
        for (const int64_t i : {cut[part], cut[part + 1] - 1}) {
          const int source = pad_source(step.pad, axis, n_in, static_cast<int>(i));
          if (source >= 0) s = hull(s, {source, source + 1});
        }
      }
      return s.lo < s.hi ? s : inside(int64_t{out.lo} - before, int64_t{out.hi} - before, n_in);
    }
    case Kind::kDepthToSpace: return {out.lo / step.shuffle.block, (out.hi - 1) / step.shuffle.block + 1};
    case Kind::kSpaceToDepth: return {out.lo * step.shuffle.block, out.hi * step.shuffle.block};
    default: return out;
  }
}

namespace {

Size result_size(const Step& step, const std::vector<Size>& sizes, const std::string& picture) {
  const Size in = sizes[static_cast<size_t>(step.in[0])];
  const std::string where = "step '" + step.name + "'";
  int64_t n[2] = {in.h, in.w};
  switch (step.kind) {
    case Kind::kConv:
      for (int axis = 0; axis < 2; ++axis) {
        const ConvAxis a = conv_axis(step.conv, axis, in.along(axis));
        const int64_t after = axis == 0 ? step.conv.pb : step.conv.pr;
        const int64_t room = n[axis] + a.pad + after - int64_t{a.kernel - 1} * a.dilation - 1;
        n[axis] = step.conv.auto_pad ? (n[axis] + a.stride - 1) / a.stride : room < 0 ? 0 : room / a.stride + 1;
      }
      break;
    case Kind::kConcat:
      for (int v : step.in)
        if (sizes[static_cast<size_t>(v)].h != in.h || sizes[static_cast<size_t>(v)].w != in.w)
          throw Error(ErrorKind::kPicture, where + " joins pictures of different sizes for a " + picture + " picture: this network needs another picture size");
      break;
    case Kind::kResize:
      n[0] = resized(in.h, step.resize.scale_h);
      n[1] = resized(in.w, step.resize.scale_w);
      break;
    case Kind::kPad: {
      const PadParams& p = step.pad;
      const int v = std::max(p.pt, p.pb), h = std::max(p.pl, p.pr);
      if ((p.mode == 1 && (v >= in.h || h >= in.w)) || (p.mode == 3 && (v > in.h || h > in.w)))
        throw Error(ErrorKind::kPicture, where + " mirrors more pixels than a " + picture + " picture has: use a larger picture");
      n[0] += int64_t{p.pt} + p.pb;
      n[1] += int64_t{p.pl} + p.pr;
      break;
    }
    case Kind::kDepthToSpace:
      n[0] *= step.shuffle.block, n[1] *= step.shuffle.block;
      break;
    case Kind::kSpaceToDepth: {
      const int b = step.shuffle.block;
      if (in.h % b || in.w % b)
        throw Error(ErrorKind::kPicture, where + " needs a height and width divisible by " + std::to_string(b) + ", but a " + picture + " picture gives " +
                                             dims(in.h, in.w));
      n[0] /= b, n[1] /= b;
      break;
    }
    default: break;
  }
  if (n[0] < 1 || n[1] < 1)
    throw Error(ErrorKind::kPicture, "a " + picture + " picture is too small for this network: " + where + " would have no output pixel");
  for (const Epilogue& e : step.epilogue) {
    if (e.code == kCodeDepthToSpace) {
      n[0] *= static_cast<int>(e.a), n[1] *= static_cast<int>(e.a);
    } else if (e.value >= 0) {
      const Size v = sizes[static_cast<size_t>(e.value)];
      if (v.h != n[0] || v.w != n[1])
        throw Error(ErrorKind::kPicture, where + " combines " + dims(n[0], n[1]) + " with " + dims(v.h, v.w) + " for a " + picture +
                                             " picture: this network needs another picture size");
    }
    if (n[0] > kMaxExtent || n[1] > kMaxExtent) break;
  }
  if (n[0] > kMaxExtent || n[1] > kMaxExtent) throw Error(ErrorKind::kPicture, where + " would make a picture of " + dims(n[0], n[1]) + ", which is too large");
  return {static_cast<int>(n[0]), static_cast<int>(n[1])};
}

}  // namespace

std::vector<Size> value_sizes(const Program& program, int h, int w) {
  if (h < 1 || w < 1) throw Error(ErrorKind::kPicture, "the picture is empty");
  if (h > kMaxExtent || w > kMaxExtent) throw Error(ErrorKind::kPicture, "a picture of " + dims(h, w) + " is too large");
  std::vector<Size> sizes(program.values.size());
  for (int v : program.inputs) sizes[static_cast<size_t>(v)] = {h, w};
  for (const Step& step : program.steps) sizes[static_cast<size_t>(step.out)] = result_size(step, sizes, dims(h, w));
  return sizes;
}

}  // namespace fastsr
