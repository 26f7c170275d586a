#include "engine/picture.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"
#include "engine/geometry.h"
#include "kernels/colour.h"
#include "kernels/kernels.h"

namespace fastsr {
namespace {

const ColourKernels& pick_kernels(const char* isa) {
  for (auto get : {colour_kernels_scalar, colour_kernels_avx2, colour_kernels_avx512, colour_kernels_neon}) {
    const ColourKernels* k = get();
    if (k && std::strcmp(k->isa, isa ? isa : "scalar") == 0) return *k;
  }
  throw Error(ErrorKind::kBackend, std::string("no colour kernels for the instruction set '") + isa + "'");
}

void check(bool ok, const char* message) {
  if (!ok) throw Error(ErrorKind::kArgument, message);
}

double white_of(const PictureView& p) { return p.type == PictureView::kU8 ? 255.0 : p.type == PictureView::kU16 ? 65535.0 : p.white; }

int network_channels(const Feed& feed) { return feed.colour == Colour::kY ? 1 : 3; }

float mean_of(const std::vector<double>& mean, int c) { return mean.empty() ? 0.0f : static_cast<float>(mean[static_cast<size_t>(c)]); }

void check_view(const PictureView& p) {
  check(p.data && p.height > 0 && p.width > 0, "the picture is empty");
  check(p.channels == 1 || p.channels == 3, "a picture has 1 or 3 channels");
  check(p.type <= PictureView::kF32, "unknown pixel type");
}

void check_feed(const Feed& feed) {
  const bool known = feed.colour == Colour::kY || feed.colour == Colour::kBgr || feed.colour == Colour::kRgb;
  check(known, "a network without a feed takes arrays, not pictures");
  const size_t c = static_cast<size_t>(network_channels(feed));
  check(feed.mean.empty() || feed.mean.size() == c, "the feed's means do not fit its channels");
  check(feed.out_mean.empty() || feed.out_mean.size() == c, "the feed's output means do not fit its channels");
  check(feed.pre_scale >= 1 && feed.pre_scale <= 16, "the feed's pre_scale must be 1..16");
}

// Room for a row of `planes` planes and as many bytes, reused from call to call.
struct Buffers : IoScratch {
  std::vector<float> planes, wide, taps;
  std::vector<uint8_t> bytes;
  std::vector<uint16_t> words;
  std::vector<int32_t> index;

  // Enlarged chroma of two source rows, for one segment of the result.
  struct ChromaRow {
    int y = -1;
    std::vector<float> cr, cb;
  };
  ChromaRow chroma[2];
  int chroma_x0 = -1, chroma_n = -1;
};

template <class T>
T* room(std::vector<T>& v, size_t n) {
  if (v.size() < n) v.resize(n);
  return v.data();
}

// Reads pixels of a view as packed bytes or as planes of floats.
class Reader {
 public:
  Reader(const PictureView& view, const ColourKernels& k) : view_(view), k_(k) {}

  const PictureView& view() const { return view_; }

  const uint8_t* at(int y, int x, int c) const {
    return static_cast<const uint8_t*>(view_.data) + y * view_.row_bytes + x * view_.pixel_bytes + c * view_.channel_bytes;
  }

  // kU8 only: n pixels as packed bytes, in place when they lie so.
  const uint8_t* packed(int y, int x0, int n, Buffers& b) const {
    const int channels = view_.channels;
    if (view_.pixel_bytes == channels && (channels == 1 || view_.channel_bytes == 1)) return at(y, x0, 0);
    uint8_t* out = room(b.bytes, static_cast<size_t>(n) * 3);
    for (int c = 0; c < channels; c++) {
      const uint8_t* p = at(y, x0, c);
      for (int i = 0; i < n; i++) out[static_cast<ptrdiff_t>(i) * channels + c] = p[i * view_.pixel_bytes];
    }
    return out;
  }

  // n values of channel c, as floats.
  void plane(int y, int x0, int n, int c, float* dst) const {
    const uint8_t* p = at(y, x0, c);
    const ptrdiff_t step = view_.pixel_bytes;
    if (view_.type == PictureView::kU8) {
      for (int i = 0; i < n; i++) dst[i] = static_cast<float>(p[i * step]);
    } else if (view_.type == PictureView::kU16) {
      for (int i = 0; i < n; i++) {
        uint16_t v;
        std::memcpy(&v, p + i * step, sizeof v);
        dst[i] = static_cast<float>(v);
      }
    } else {
      for (int i = 0; i < n; i++) std::memcpy(dst + i, p + i * step, sizeof(float));
    }
  }

  // kU16 and kF32, three channels: planes b, g, r in 0..1, `n` floats apart.
  float* unit_planes(int y, int x0, int n, Buffers& b) const {
    float* out = room(b.planes, static_cast<size_t>(n) * 3);
    for (int c = 0; c < 3; c++) plane(y, x0, n, c, out + static_cast<ptrdiff_t>(c) * n);
    k_.feed_f32(out, 3 * n, static_cast<float>(1.0 / white_of(view_)), 0.0f);
    return out;
  }

 private:
  PictureView view_;
  const ColourKernels& k_;
};

// ---- source ---------------------------------------------------------------------------------------------------------------------------------

class PictureSource final : public Source {
 public:
  PictureSource(const PictureView& picture, const Feed& feed, const ColourKernels& k) : reader_(picture, k), feed_(feed), k_(k) {
    const int s = feed.pre_scale;
    for (int j = 0; j < s && s > 1; j++) {
      // Keys 1981 with a = -0.5, as image.cubic_taps.
      const double t = static_cast<double>((2 * j + 1 + s) % (2 * s)) / (2 * s);
      const double x[4] = {t + 1, t, 1 - t, 2 - t};
      for (double d : x) {
        const double near = (1.5 * d - 2.5) * d * d + 1, far = ((d - 5) * d + 8) * d * -0.5 + 2;
        cubic_.push_back(static_cast<float>(d <= 1 ? near : far));
      }
    }
  }

  int height() const override { return reader_.view().height * feed_.pre_scale; }
  int width() const override { return reader_.view().width * feed_.pre_scale; }
  int channels() const override { return network_channels(feed_); }
  std::unique_ptr<IoScratch> make_scratch() const override { return std::make_unique<Buffers>(); }

  void read(int y, int x0, int n, float* dst, ptrdiff_t channel_stride, IoScratch* scratch) const override {
    Buffers& b = static_cast<Buffers&>(*scratch);
    if (feed_.pre_scale == 1) {
      row(y, x0, n, dst, channel_stride, b);
    } else {
      enlarged_row(y, x0, n, dst, channel_stride, b);
    }
  }

 private:
  // One line of the fed planes before pre_scale.
  void row(int y, int x0, int n, float* dst, ptrdiff_t stride, Buffers& b) const {
    const PictureView& p = reader_.view();
    const float k = static_cast<float>(feed_.range / white_of(p));
    if (feed_.colour == Colour::kY && p.channels == 3) {
      if (p.type == PictureView::kU8) {
        (feed_.fine ? k_.fine_y_u8 : k_.y_u8)(dst, reader_.packed(y, x0, n, b), n, k, mean_of(feed_.mean, 0));
      } else {
        const float* planes = reader_.unit_planes(y, x0, n, b);
        k_.y_f32(dst, planes, planes + n, planes + 2 * static_cast<ptrdiff_t>(n), n);
        k_.feed_f32(dst, n, static_cast<float>(feed_.range), mean_of(feed_.mean, 0));
      }
      return;
    }
    if (p.type == PictureView::kU8 && p.channels == 3) {
      const int blue = feed_.colour == Colour::kRgb ? 2 : 0, red = 2 - blue;
      k_.feed_bgr_u8(dst + blue * stride, dst + stride, dst + red * stride, reader_.packed(y, x0, n, b), n, k, mean_of(feed_.mean, blue),
                     mean_of(feed_.mean, 1), mean_of(feed_.mean, red));
      return;
    }
    for (int c = 0; c < channels(); c++) {
      const int from = p.channels == 1 ? 0 : feed_.colour == Colour::kRgb ? 2 - c : c;
      float* out = dst + c * stride;
      if (p.type == PictureView::kU8 && p.channels == 1) {
        k_.feed_u8(out, reader_.packed(y, x0, n, b), n, k, mean_of(feed_.mean, c));
      } else {
        reader_.plane(y, x0, n, from, out);
        k_.feed_f32(out, n, k, mean_of(feed_.mean, c));
      }
    }
  }

  void enlarged_row(int y, int x0, int n, float* dst, ptrdiff_t stride, Buffers& b) const {
    const int s = feed_.pre_scale, h = reader_.view().height, w = reader_.view().width, planes = channels();
    const auto left = [s](int d) { return d / s - (d % s < s / 2 ? 1 : 0); };
    const int c0 = std::max(0, left(x0) - 1), c1 = std::min(w, left(x0 + n - 1) + 3), len = c1 - c0;
    float* in = room(b.taps, static_cast<size_t>(planes) * static_cast<size_t>(len));
    for (int t = 0; t < 4; t++) {
      const float v = cubic_[static_cast<size_t>(4 * (y % s) + t)];
      row(std::clamp(left(y) + t - 1, 0, h - 1), c0, len, in, len, b);
      for (int c = 0; c < planes; c++) {
        const float* p = in + static_cast<ptrdiff_t>(c) * len;
        for (int i = 0; i < n; i++) {
          const int l = left(x0 + i) - 1;
          const float* k = &cubic_[static_cast<size_t>(4 * ((x0 + i) % s))];
          float sum = p[std::clamp(l, 0, w - 1) - c0] * k[0];
          for (int j = 1; j < 4; j++) sum += p[std::clamp(l + j, 0, w - 1) - c0] * k[j];
          float& out = dst[c * stride + i];
          out = t == 0 ? sum * v : out + sum * v;
        }
      }
    }
  }

  Reader reader_;
  Feed feed_;
  const ColourKernels& k_;
  std::vector<float> cubic_;  // pre_scale phases of 4 weights
};

// ---- sink -----------------------------------------------------------------------------------------------------------------------------------

class PictureSink final : public Sink {
 public:
  PictureSink(const PictureView& result, const PictureView& picture, const Feed& feed, const ColourKernels& k)
      : out_(result), reader_(picture, k), feed_(feed), k_(k) {
    if (!(feed.colour == Colour::kY && picture.channels == 3)) return;
    const int in = picture.width, wide = result.width;
    plain_ = picture.height == 1 || in == 1;
    whole_ = !plain_ && wide % in == 0 ? wide / in : 0;
    const int n = whole_ ? whole_ : wide;
    for (int d = 0; d < n; d++) {
      const Tap t = tap(d, wide, in);
      left_.push_back(t.left);
      frac_.push_back(plain_ && (t.left < 0 || t.left >= in - 1) ? 0.0f : t.frac);
    }
  }

  std::unique_ptr<IoScratch> make_scratch() const override { return std::make_unique<Buffers>(); }

  void write(int y, int x0, int n, float* src, ptrdiff_t stride, IoScratch* scratch) override {
    Buffers& b = static_cast<Buffers&>(*scratch);
    if (out_.type == PictureView::kU8) {
      write_u8(y, x0, n, src, stride, b);
    } else {
      write_float(y, x0, n, src, stride, b);
    }
  }

 private:
  struct Tap {
    int left;
    float frac;
  };

  // As image.linear_taps.
  static Tap tap(int d, int n_out, int n_in) {
    const int64_t position = (2 * static_cast<int64_t>(d) + 1) * n_in - n_out, unit = 2 * static_cast<int64_t>(n_out);
    const int64_t left = position >= 0 ? position / unit : -((unit - 1 - position) / unit);
    return {static_cast<int>(left), static_cast<float>(static_cast<double>(position - left * unit) / static_cast<double>(unit))};
  }

  uint8_t* at(int y, int x, int c) const {
    return static_cast<uint8_t*>(out_.data) + y * out_.row_bytes + x * out_.pixel_bytes + c * out_.channel_bytes;
  }

  bool packed() const { return out_.pixel_bytes == out_.channels && (out_.channels == 1 || out_.channel_bytes == 1); }

  void write_u8(int y, int x0, int n, const float* src, ptrdiff_t stride, Buffers& b) const {
    const float k = static_cast<float>(255.0 / feed_.out_range), m = mean_of(feed_.out_mean, 0);
    const size_t size = static_cast<size_t>(n);
    uint8_t* direct = packed() ? at(y, x0, 0) : nullptr;
    uint8_t* pixels = direct ? direct : room(b.bytes, size * 6);
    if (feed_.colour == Colour::kY && out_.channels == 1) {
      k_.store_u8(pixels, src, n, m, k);
    } else if (feed_.colour == Colour::kY) {
      const Chroma c = chroma(y, x0, n, b);
      pixels = direct ? direct : room(b.bytes, size * 6);
      (feed_.fine ? k_.store_fine_ycrcb_u8 : k_.store_ycrcb_u8)(pixels, src, c.cr, c.cb, c.frac, n, m, k);
    } else {
      const int blue = feed_.colour == Colour::kRgb ? 2 : 0, red = 2 - blue;
      uint8_t* colours = out_.channels == 3 ? pixels : room(b.bytes, size * 6) + 3 * size;
      k_.store_bgr_u8(colours, src + blue * stride, src + stride, src + red * stride, n, mean_of(feed_.out_mean, blue), mean_of(feed_.out_mean, 1),
                      mean_of(feed_.out_mean, red), k);
      if (out_.channels == 1) {
        pixels = direct ? direct : b.bytes.data();
        for (int i = 0; i < n; i++, colours += 3) pixels[i] = static_cast<uint8_t>((4899 * colours[2] + 9617 * colours[1] + 1868 * colours[0] + 8192) >> 14);
      }
    }
    if (direct) return;
    for (int c = 0; c < out_.channels; c++) {
      uint8_t* to = at(y, x0, c);
      for (int i = 0; i < n; i++) to[i * out_.pixel_bytes] = pixels[static_cast<ptrdiff_t>(i) * out_.channels + c];
    }
  }

  void write_float(int y, int x0, int n, float* src, ptrdiff_t stride, Buffers& b) const {
    const double white = out_.type == PictureView::kU16 ? 65535.0 : 1.0;
    const int planes = network_channels(feed_);
    float* p[3];
    for (int c = 0; c < planes; c++) {
      const float m = mean_of(feed_.out_mean, c);
      float* x = p[planes == 1 ? 0 : feed_.colour == Colour::kRgb ? 2 - c : c] = src + c * stride;
      for (int i = 0; i < n; i++) x[i] += m;
    }
    const size_t size = static_cast<size_t>(n);
    double k = white / feed_.out_range;
    if (planes == 1 && out_.channels == 3) {
      k_.feed_f32(p[0], n, static_cast<float>(1.0 / feed_.out_range), 0.0f);
      const Chroma c = chroma(y, x0, n, b);
      float* wide = room(b.wide, 5 * size);
      k_.blend(wide + 3 * size, c.cr[0], c.cr[1], c.frac, n);
      k_.blend(wide + 4 * size, c.cb[0], c.cb[1], c.frac, n);
      k_.ycrcb_f32(wide, wide + size, wide + 2 * size, p[0], wide + 3 * size, wide + 4 * size, n);
      for (int i = 0; i < 3; i++) p[i] = wide + static_cast<size_t>(i) * size;
      k = white;
    } else if (planes == 3 && out_.channels == 1) {
      for (float* x : p) k_.feed_f32(x, n, static_cast<float>(1.0 / feed_.out_range), 0.0f);
      float* wide = room(b.wide, size);
      k_.y_f32(wide, p[0], p[1], p[2], n);
      p[0] = wide;
      k = white;
    }
    for (int c = 0; c < out_.channels; c++) {
      uint8_t* to = at(y, x0, c);
      if (out_.type == PictureView::kU16) {
        uint16_t* words = room(b.words, size);
        k_.store_u16(words, p[c], n, 0.0f, static_cast<float>(k));
        for (int i = 0; i < n; i++) std::memcpy(to + i * out_.pixel_bytes, words + i, sizeof(uint16_t));
      } else {
        k_.feed_f32(p[c], n, static_cast<float>(k), 0.0f);
        for (int i = 0; i < n; i++) std::memcpy(to + i * out_.pixel_bytes, p[c] + i, sizeof(float));
      }
    }
  }

  // Two rows of enlarged chroma each, between which line y lies.
  struct Chroma {
    const float* cr[2];
    const float* cb[2];
    float frac;
  };

  Chroma chroma(int y, int x0, int n, Buffers& b) const {
    if (b.chroma_x0 != x0 || b.chroma_n != n) {
      b.chroma_x0 = x0;
      b.chroma_n = n;
      b.chroma[0].y = b.chroma[1].y = -1;
    }
    const int h = reader_.view().height;
    const Tap t = tap(y, out_.height, h);
    const int rows[2] = {std::clamp(t.left, 0, h - 1), std::clamp(t.left + 1, 0, h - 1)};
    const int skip = whole_ ? x0 % whole_ : 0;
    Chroma c{};
    c.frac = t.frac;
    for (int i = 0; i < 2; i++) {
      // Rows of the source alternate between the two places, so that the two of a line never compete.
      Buffers::ChromaRow& slot = b.chroma[rows[i] & 1];
      if (slot.y != rows[i]) fill(slot, rows[i], x0, n, b);
      c.cr[i] = slot.cr.data() + skip;
      c.cb[i] = slot.cb.data() + skip;
    }
    if (plain_) blend_plainly(c, n, b);
    return c;
  }

  void fill(Buffers::ChromaRow& slot, int row, int x0, int n, Buffers& b) const {
    const int w = reader_.view().width;
    const int i0 = whole_ ? x0 / whole_ : left_[static_cast<size_t>(x0)] + 1;
    const int i1 = whole_ ? (x0 + n - 1) / whole_ + 1 : left_[static_cast<size_t>(x0 + n - 1)] + 1;
    // Source pixels i0 - 1 .. i1, with the edges repeated.
    const int a = std::max(0, i0 - 1), e = std::min(w, i1 + 1), len = i1 - i0 + 2, at = a - (i0 - 1), count = e - a;
    const int room_for = len + kOverRead;
    float* narrow = room(b.taps, 2 * static_cast<size_t>(room_for));
    float* rows[2] = {narrow, narrow + room_for};
    if (reader_.view().type == PictureView::kU8) {
      k_.chroma_u8(rows[0] + at, rows[1] + at, reader_.packed(row, a, count, b), count);
    } else {
      const float* p = reader_.unit_planes(row, a, count, b);
      k_.chroma_f32(rows[0] + at, rows[1] + at, p, p + count, p + 2 * static_cast<ptrdiff_t>(count), count);
    }
    for (float* r : rows) {
      for (int i = 0; i < at; i++) r[i] = r[at];
      for (int i = at + count; i < len; i++) r[i] = r[at + count - 1];
    }
    const size_t size = whole_ ? static_cast<size_t>(i1 - i0) * static_cast<size_t>(whole_) : static_cast<size_t>(n);
    float* to[2] = {room(slot.cr, size + kOverWrite), room(slot.cb, size + kOverWrite)};
    for (int p = 0; p < 2; p++) {
      if (whole_) {
        k_.enlarge(to[p], rows[p] + 1, i1 - i0, whole_, frac_.data());
        continue;
      }
      int32_t* index = room(b.index, static_cast<size_t>(n));
      for (int i = 0; i < n; i++) index[i] = left_[static_cast<size_t>(x0 + i)] - (i0 - 1);
      const float* frac = &frac_[static_cast<size_t>(x0)];
      if (plain_) {
        for (int i = 0; i < n; i++) to[p][i] = rows[p][index[i]] * (1.0f - frac[i]) + rows[p][index[i] + 1] * frac[i];
      } else {
        k_.enlarge_at(to[p], rows[p], index, frac, n);
      }
    }
    slot.y = row;
  }

  void blend_plainly(Chroma& c, int n, Buffers& b) const {
    float* both = room(b.wide, 7 * static_cast<size_t>(n)) + 5 * static_cast<size_t>(n);
    for (int i = 0; i < n; i++) {
      both[i] = c.cr[0][i] * (1.0f - c.frac) + c.cr[1][i] * c.frac;
      both[n + i] = c.cb[0][i] * (1.0f - c.frac) + c.cb[1][i] * c.frac;
    }
    c = {{both, both}, {both + n, both + n}, 0.0f};
  }

  PictureView out_;
  Reader reader_;
  Feed feed_;
  const ColourKernels& k_;
  bool plain_ = false;  // OpenCV's other bilinear code, see fastsr/image.py
  int whole_ = 0;       // the horizontal factor where it is whole and not plain, else 0
  std::vector<int32_t> left_;
  std::vector<float> frac_;  // one per phase where whole_, else one per column, like left_
};

}  // namespace

std::unique_ptr<Source> make_picture_source(const PictureView& picture, const Feed& feed, const char* isa) {
  check_view(picture);
  check_feed(feed);
  if (std::max(picture.height, picture.width) > kMaxExtent / feed.pre_scale)
    throw Error(ErrorKind::kPicture, "a picture of " + std::to_string(picture.width) + "x" + std::to_string(picture.height) + " is too large");
  return std::make_unique<PictureSource>(picture, feed, pick_kernels(isa));
}

std::unique_ptr<Sink> make_picture_sink(const PictureView& result, const PictureView& picture, const Feed& feed, const char* isa) {
  check_view(result);
  check_view(picture);
  check_feed(feed);
  check(result.channels == picture.channels, "the result has other channels than the picture");
  check(result.type == picture.type || (picture.type == PictureView::kF32 && result.type == PictureView::kU8),
        "the result must have the picture's type, or kU8 for a kF32 picture");
  return std::make_unique<PictureSink>(result, picture, feed, pick_kernels(isa));
}

}  // namespace fastsr
