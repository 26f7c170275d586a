#include "engine/fsr_reader.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "base/error.h"

namespace fastsr {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFFu;
constexpr size_t kHeader = 64;

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::kModel, what); }
[[noreturn]] void damaged(const std::string& what) { fail("the .fsr file is damaged: " + what); }

template <class T>
T load(const uint8_t* p) {  // little-endian, any alignment
  uint64_t bits = 0;
  for (size_t i = 0; i < sizeof(T); ++i) bits |= static_cast<uint64_t>(p[i]) << (8 * i);
  T value;
  if constexpr (sizeof(T) == 8) {
    std::memcpy(&value, &bits, 8);
  } else {
    const auto low = static_cast<uint32_t>(bits);
    std::memcpy(&value, &low, 4);
  }
  return value;
}

bool valid_utf8(const uint8_t* s, size_t n) {
  size_t i = 0;
  while (i < n) {
    const uint8_t c = s[i++];
    if (c == 0) return false;
    if (c < 0x80) continue;
    int more;
    uint32_t code;
    if ((c & 0xE0) == 0xC0) more = 1, code = c & 0x1F;
    else if ((c & 0xF0) == 0xE0) more = 2, code = c & 0x0F;
    else if ((c & 0xF8) == 0xF0) more = 3, code = c & 0x07;
    else return false;
    const uint32_t least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
    for (; more > 0; --more, ++i) {
      if (i >= n || (s[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (s[i] & 0x3Fu);
    }
    if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
  }
  return true;
}

class Cursor {
 public:
  Cursor(const uint8_t* data, size_t size) : p_(data), left_(size) {}

  uint32_t u32() { return load<uint32_t>(take(4)); }
  uint64_t u64() { return load<uint64_t>(take(8)); }
  double f64() { return load<double>(take(8)); }
  double finite(const char* what) {
    const double v = f64();
    if (!std::isfinite(v)) damaged(std::string(what) + " is not finite");
    return v;
  }
  // A count that is followed by at least `each` bytes per item.
  int count(const char* what, uint32_t least, uint32_t most, size_t each) {
    const uint32_t n = u32();
    if (n < least || n > most) damaged(std::to_string(n) + " " + what + ", expected " + std::to_string(least) + " to " + std::to_string(most));
    if (each && n > left_ / each) damaged(std::to_string(n) + " " + what + " do not fit into the file");
    return static_cast<int>(n);
  }
  std::string text() {
    const size_t n = static_cast<size_t>(count("bytes of text", 0, 65535, 1));
    const uint8_t* s = take(n);
    if (!valid_utf8(s, n)) damaged("a name is not UTF-8 without NUL");
    return std::string(reinterpret_cast<const char*>(s), n);
  }
  size_t left() const { return left_; }

 private:
  const uint8_t* take(size_t n) {
    if (n > left_) damaged("a record runs past its section");
    const uint8_t* at = p_;
    p_ += n;
    left_ -= n;
    return at;
  }
  const uint8_t* p_;
  size_t left_;
};

float half_to_float(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  float v;
  if (exponent == 0) v = std::ldexp(static_cast<float>(mantissa), -24);
  else if (exponent == 31) v = mantissa ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  else v = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return h >> 15 ? -v : v;
}

bool little_endian() {
  const uint32_t one = 1;
  uint8_t first;
  std::memcpy(&first, &one, 1);
  return first == 1;
}

// Floats in the file, or in memory of somebody else's: where they lie if they may be read there, else a copy.
Numbers floats_at(const uint8_t* p, size_t n, bool stay, const std::shared_ptr<const void>& owner) {
  if (stay && little_endian() && reinterpret_cast<uintptr_t>(p) % alignof(float) == 0) return Numbers(reinterpret_cast<const float*>(p), n, owner);
  std::vector<float> copy(n);
  if (little_endian()) std::memcpy(copy.data(), p, n * sizeof(float));
  else for (size_t i = 0; i < n; ++i) copy[i] = load<float>(p + 4 * i);
  return Numbers(std::move(copy));
}

// given: its numbers, if they do not lie in the file.
Tensor read_tensor(Cursor& in, const uint8_t* data, uint64_t size, uint64_t& total, const FsrBytes& file, const Numbers* given) {
  static const int bytes_of[] = {4, 2, 1, 1, 4};
  const int dtype = static_cast<int>(in.count("as tensor type", 0, 4, 0));
  const int rank = in.count("tensor dimensions", 0, 4, 4);
  Tensor t;
  uint64_t n = 1;
  bool huge = false;
  for (int i = 0; i < rank; ++i) {
    const int d = in.count("as tensor size", 1, 0x7FFFFFFFu, 0);
    if (n > size / static_cast<uint64_t>(d)) huge = true;
    else n *= static_cast<uint64_t>(d);
    t.dims.push_back(d);
  }
  const uint64_t offset = in.u64();
  const uint64_t each = static_cast<uint64_t>(bytes_of[dtype]);
  if (huge || offset % 64 || offset > size || n > (size - offset) / each) damaged("a tensor lies outside the data");
  total += n * each;
  if (total > size) damaged("tensors overlap");
  const bool weights = rank == 4;  // others are small
  if (given) {
    if (dtype != 0 || n != given->size()) damaged("a tensor has not as many numbers as were given");
    t.data = weights ? *given : Numbers(std::vector<float>(given->begin(), given->end()));
    return t;
  }
  const uint8_t* p = data + offset;
  if (dtype == 0) {
    t.data = floats_at(p, static_cast<size_t>(n), weights && file.owner, file.owner);
    return t;
  }
  std::vector<float> numbers(static_cast<size_t>(n));
  for (size_t i = 0; i < numbers.size(); ++i) {
    switch (dtype) {
      case 1: numbers[i] = half_to_float(static_cast<uint16_t>(p[2 * i] | p[2 * i + 1] << 8)); break;
      case 2: numbers[i] = static_cast<float>(static_cast<int8_t>(p[i])); break;
      case 3: numbers[i] = static_cast<float>(p[i]); break;
      default: numbers[i] = static_cast<float>(load<int32_t>(p + 4 * i));
    }
  }
  t.data = Numbers(std::move(numbers));
  return t;
}

// One step as it is being read: its place in messages, and its parameters.
struct Reading {
  Cursor& in;
  const Program& program;
  Step& step;

  [[noreturn]] void bad(const std::string& what) const { fail("step '" + step.name + "' (" + kind_name(step.kind) + "): " + what); }

  int whole(const char* what, int least, int most) const {
    const double v = in.f64();
    if (!(v >= least && v <= most) || v != std::floor(v))
      bad(std::string(what) + " must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return static_cast<int>(v);
  }
  double real(const char* what) const {
    const double v = in.f64();
    if (!std::isfinite(v)) bad(std::string(what) + " is not finite");
    return v;
  }
  double scale(const char* what) const {
    const double v = real(what);
    if (!(v > 0 && v <= kLimit)) bad(std::string(what) + " must be positive and at most " + std::to_string(kLimit));
    return v;
  }
  int tensor() const {
    const uint32_t t = in.u32();
    if (t == kNone) return -1;
    if (t >= program.tensors.size()) bad("refers to tensor " + std::to_string(t) + ", which does not exist");
    return static_cast<int>(t);
  }
  int value(uint32_t v, const std::vector<char>& ready) const {
    if (v >= program.values.size() || !ready[v]) bad("reads a value that nothing before it computes");
    return static_cast<int>(v);
  }
  int channels(int value) const { return program.values[static_cast<size_t>(value)].channels; }

  void conv(int channels_in);
  void kind_params();
  int result_channels() const;
  int epilogue_channels(int channels);
};

void Reading::conv(int channels_in) {
  const int weight = step.weight, bias = step.bias;
  const ConvParams& p = step.conv;
  if (weight < 0) bad("a convolution without weights");
  const Tensor& w = program.tensors[static_cast<size_t>(weight)];
  if (w.dims.size() != 4 || w.dims[2] != p.kh || w.dims[3] != p.kw)
    bad("the weight's shape does not fit the kernel " + std::to_string(p.kh) + "x" + std::to_string(p.kw));
  if (int64_t{w.dims[1]} * p.group != channels_in || w.dims[0] % p.group)
    bad("weight and " + std::to_string(p.group) + " groups do not fit " + std::to_string(channels_in) + " input channels");
  if (w.dims[0] > kMaxChannels) bad("too many channels");
  if (p.auto_pad && (p.pt || p.pl || p.pb || p.pr)) bad("both auto_pad and pads");
  if (bias >= 0) {
    const Tensor& b = program.tensors[static_cast<size_t>(bias)];
    if (b.dims.size() != 1 || b.dims[0] != w.dims[0]) bad("the bias does not have one number per output channel");
  }
  step.channels = w.dims[0];
}

void Reading::kind_params() {
  static const uint32_t n_params[] = {0, 12, 0, 0, 7, 6, 2, 1};
  in.count("parameters", n_params[static_cast<int>(step.kind)], n_params[static_cast<int>(step.kind)], 8);
  switch (step.kind) {
    case Kind::kConv: {
      ConvParams& p = step.conv;
      p.kh = whole("kh", 1, kLimit), p.kw = whole("kw", 1, kLimit);
      p.sh = whole("sh", 1, kLimit), p.sw = whole("sw", 1, kLimit);
      p.dh = whole("dh", 1, kLimit), p.dw = whole("dw", 1, kLimit);
      p.pt = whole("pt", 0, kLimit), p.pl = whole("pl", 0, kLimit), p.pb = whole("pb", 0, kLimit), p.pr = whole("pr", 0, kLimit);
      p.auto_pad = whole("auto_pad", 0, 2), p.group = whole("group", 1, kMaxChannels);
      break;
    }
    case Kind::kResize: {
      ResizeParams& p = step.resize;
      p.mode = whole("mode", 0, 2), p.coord = whole("coord", 0, 5), p.nearest_mode = whole("nearest_mode", 0, 3);
      p.cubic_a = real("cubic_a");
      if (std::fabs(p.cubic_a) > kLimit) bad("cubic_a is out of range");
      p.exclude_outside = whole("exclude_outside", 0, 1) != 0;
      p.scale_h = scale("scale_h"), p.scale_w = scale("scale_w");
      break;
    }
    case Kind::kPad: {
      PadParams& p = step.pad;
      p.pt = whole("pt", -kLimit, kLimit), p.pl = whole("pl", -kLimit, kLimit);
      p.pb = whole("pb", -kLimit, kLimit), p.pr = whole("pr", -kLimit, kLimit);
      p.mode = whole("mode", 0, 3);
      const double value = real("value");
      if (std::fabs(value) > std::numeric_limits<float>::max()) bad("value is out of range");
      p.value = static_cast<float>(value);
      if (p.mode && (p.pt < 0 || p.pl < 0 || p.pb < 0 || p.pr < 0)) bad("negative pads crop only in mode constant");
      break;
    }
    case Kind::kDepthToSpace:
      step.shuffle.block = whole("block", 1, kMaxBlock), step.shuffle.mode = whole("mode", 0, 1);
      break;
    case Kind::kSpaceToDepth:
      step.shuffle.block = whole("block", 1, kMaxBlock);
      break;
    default: break;
  }
}

// Channels of the result before the epilogue.
int Reading::result_channels() const {
  const int c = channels(step.in[0]), b = step.shuffle.block;
  switch (step.kind) {
    case Kind::kConv: return step.channels;
    case Kind::kConcat: {
      int64_t sum = 0;
      for (int v : step.in) sum += channels(v);
      if (sum > kMaxChannels) bad("too many channels");
      return static_cast<int>(sum);
    }
    case Kind::kDepthToSpace:
      if (c % (b * b)) bad(std::to_string(c) + " channels do not split into blocks of " + std::to_string(b) + "x" + std::to_string(b));
      return c / (b * b);
    case Kind::kSpaceToDepth:
      if (int64_t{c} * b * b > kMaxChannels) bad("too many channels");
      return c * b * b;
    default: return c;
  }
}

int Reading::epilogue_channels(int c) {
  int shuffles = 0;
  for (const Epilogue& e : step.epilogue) {
    if (e.value >= 0 && channels(e.value) != c && channels(e.value) != 1)
      bad("combines " + std::to_string(c) + " channels with " + std::to_string(channels(e.value)));
    if (e.tensor >= 0) {
      const Tensor& t = program.tensors[static_cast<size_t>(e.tensor)];
      if (t.dims.size() > 1 || (t.dims.size() == 1 && t.dims[0] != c && t.dims[0] != 1))
        bad("an epilogue tensor does not have one number per channel");
    }
    if (e.code == kCodePRelu && e.tensor < 0) bad("PRelu without slopes");
    if (e.code == kCodeQuantize && !(e.a >= -kMostLevel && e.a <= e.b && e.b <= kMostLevel && e.a == std::floor(e.a) && e.b == std::floor(e.b)))
      bad("Quantize needs whole numbers of at most " + std::to_string(kMostLevel));
    if (e.code == kCodeDepthToSpace) {
      const int b = e.a >= 1 && e.a <= kMaxBlock ? static_cast<int>(e.a) : 0;
      if (++shuffles > 1 || b < 1 || e.a != b || (e.b != 0 && e.b != 1) || c % (b * b))
        bad(std::to_string(c) + " channels do not shuffle by " + std::to_string(e.a));
      c /= b * b;
    }
  }
  return c;
}

Step read_step(Cursor& in, const Program& program, uint32_t version, std::vector<char>& ready) {
  Step step;
  const uint32_t kind = in.u32();
  if (version > 2 && (kind == 8 || kind == 9)) fail("this network takes means or maxima over the whole picture, which the C library does not run yet: use fastsr from Python");
  if (version > 2 && kind == 10) fail("this network resizes to the size of another picture in it, which the C library does not run yet: use fastsr from Python");
  if (kind < 1 || kind > 7) fail("the .fsr file has an unknown step kind " + std::to_string(kind) + ": upgrade fastsr");
  step.kind = static_cast<Kind>(kind);
  step.name = in.text();
  Reading r{in, program, step};
  const int n_in = in.count("step inputs", 1, 1024, 4);
  for (int i = 0; i < n_in; ++i) step.in.push_back(r.value(in.u32(), ready));
  if (n_in > 1 && step.kind != Kind::kConcat) r.bad(std::to_string(n_in) + " inputs");
  const uint32_t out = in.u32();
  if (out >= program.values.size()) r.bad("writes a value that does not exist");
  if (ready[out]) r.bad("writes a value that exists already");
  step.out = static_cast<int>(out);
  r.kind_params();
  const uint32_t n_tensors = step.kind == Kind::kConv ? 2 : 0;
  in.count("step tensors", n_tensors, n_tensors, 4);
  if (n_tensors) {
    step.weight = r.tensor();
    step.bias = r.tensor();
    r.conv(r.channels(step.in[0]));
  }
  const int n_epilogue = in.count("epilogue entries", 0, 64, 28);
  for (int i = 0; i < n_epilogue; ++i) {
    Epilogue e;
    const uint32_t code = in.u32();
    if (code < 1 || code > static_cast<uint32_t>(version > 2 ? kCodeSqrt : version > 1 ? kCodeQuantize : kCodeDepthToSpace)) r.bad("unknown epilogue code " + std::to_string(code) + ": upgrade fastsr");
    e.code = static_cast<int>(code);
    const uint32_t value = in.u32();
    if (value != kNone) e.value = r.value(value, ready);
    e.tensor = r.tensor();
    e.a = in.f64(), e.b = in.f64();
    const bool binary = e.code >= kCodeAdd && e.code <= kCodeLastScalar;
    if (e.value >= 0 && (!binary || e.tensor >= 0)) r.bad("an epilogue has an operand that it cannot take");
    if (e.tensor >= 0 && !binary && e.code != kCodePRelu) r.bad("an epilogue has an operand that it cannot take");
    if (std::isnan(e.a) || std::isnan(e.b)) r.bad("an epilogue number is not a number");
    step.epilogue.push_back(e);
  }
  step.channels = r.result_channels();
  const int made = r.epilogue_channels(step.channels);
  if (made != r.channels(step.out))
    r.bad("makes " + std::to_string(made) + " channels, but its output has " + std::to_string(r.channels(step.out)));
  ready[out] = 1;
  return step;
}

constexpr int kFineY = 4;  // code of kY with Feed::fine

void read_feed(Cursor& in, uint32_t version, Feed& feed) {
  const int colour = in.count("as colour", 0, version > 3 ? kFineY : kFineY - 1, 0);
  feed.fine = colour == kFineY;
  feed.colour = feed.fine ? Colour::kY : static_cast<Colour>(colour);
  feed.pre_scale = in.count("as pre_scale", 1, 16, 0);
  feed.range = in.finite("the range"), feed.out_range = in.finite("the output range");
  if (feed.range == 0 || feed.out_range == 0) damaged("a range of 0");
  for (std::vector<double>* mean : {&feed.mean, &feed.out_mean}) {
    const int n = in.count("means", 0, 65536, 8);
    for (int i = 0; i < n; ++i) mean->push_back(in.finite("a mean"));
  }
}

}  // namespace

const char* kind_name(Kind kind) {
  static const char* const names[] = {"?", "Conv", "Pointwise", "Concat", "Resize", "Pad", "DepthToSpace", "SpaceToDepth"};
  return names[static_cast<int>(kind)];
}

uint32_t crc32(const void* data, size_t bytes) {
  static const auto table = [] {  // table[k]: a byte with k bytes behind it; sixteen bytes a turn
    std::array<std::array<uint32_t, 256>, 16> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
      t[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; ++i)
      for (size_t k = 1; k < 16; ++k) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 255];
    return t;
  }();
  const auto* p = static_cast<const uint8_t*>(data);
  uint32_t c = 0xFFFFFFFFu;
  for (; bytes >= 16; bytes -= 16, p += 16) {
    uint32_t next = 0;
    for (size_t i = 0; i < 4; ++i) {
      const uint32_t w = load<uint32_t>(p + 4 * i) ^ (i == 0 ? c : 0);
      const auto* t = &table[12 - 4 * i];
      next ^= t[3][w & 255] ^ t[2][w >> 8 & 255] ^ t[1][w >> 16 & 255] ^ t[0][w >> 24];
    }
    c = next;
  }
  for (; bytes; --bytes) c = c >> 8 ^ table[0][(c ^ *p++) & 255];
  return ~c;
}

Program read_fsr(const FsrBytes& file) {
  static const uint8_t magic[8] = {0x89, 'F', 'S', 'R', '\r', '\n', 0x1A, '\n'};
  const auto* p = static_cast<const uint8_t*>(file.data);
  const size_t bytes = file.bytes;
  if (bytes < 8 || std::memcmp(p, magic, 8) != 0) fail("not an .fsr file: its first bytes are not the .fsr signature");
  if (bytes < kHeader) fail("the .fsr file is truncated: it ends inside its header");
  const uint32_t version = load<uint32_t>(p + 8);
  if (version < 1 || version > 4)
    fail("the .fsr file has version " + std::to_string(version) + ", this fastsr reads versions 1 to 4: upgrade fastsr or convert the model again");
  const uint64_t total = load<uint64_t>(p + 16), at = load<uint64_t>(p + 32), size = load<uint64_t>(p + 40), data_at = load<uint64_t>(p + 48),
                 data_size = load<uint64_t>(p + 56);
  if (total != bytes && !(file.tensors && data_at == bytes && total > bytes))
    fail("the .fsr file is truncated or has grown: " + std::to_string(bytes) + " bytes, its header says " + std::to_string(total));
  if (load<uint32_t>(p + 12) != kHeader || load<uint32_t>(p + 28) != 0 || at != kHeader || data_at < kHeader || data_at > total ||
      size > data_at - kHeader || data_at % 64 || data_size != total - data_at)
    damaged("its header contradicts itself");
  if (!file.tensors && crc32(p + kHeader, bytes - kHeader) != load<uint32_t>(p + 24)) damaged("its checksum does not fit");

  Cursor in(p + kHeader, static_cast<size_t>(size));
  Program program;
  in.text();
  read_feed(in, version, program.feed);
  uint64_t tensor_bytes = 0;
  const auto n_tensors = static_cast<size_t>(in.count("tensors", 0, 65536, 16));
  if (file.tensors && file.tensors->size() != n_tensors) damaged("it has not as many tensors as were given");
  for (size_t i = 0; i < n_tensors; ++i) {
    const Numbers* given = file.tensors ? &(*file.tensors)[i] : nullptr;
    program.tensors.push_back(read_tensor(in, p + data_at, data_size, tensor_bytes, file, given));
  }
  for (int n = in.count("values", 1, 65536, 8); n > 0; --n) {
    ValueInfo v;
    v.name = in.text();
    v.channels = in.count("channels", 1, kMaxChannels, 0);
    program.values.push_back(std::move(v));
  }
  std::vector<char> ready(program.values.size(), 0);
  for (int n = in.count("inputs", 1, kMaxInputs, 4); n > 0; --n) {
    const uint32_t v = in.u32();
    if (v >= program.values.size() || ready[v]) damaged("its inputs are not distinct values");
    ready[v] = 1;
    program.inputs.push_back(static_cast<int>(v));
  }
  for (int n = in.count("outputs", 1, 64, 8); n > 0; --n) {
    const uint32_t v = in.u32();
    OutputInfo out;
    out.name = in.text();
    if (v >= program.values.size()) damaged("output '" + out.name + "' is not a value");
    out.value = static_cast<int>(v);
    program.outputs.push_back(std::move(out));
  }
  for (int n = in.count("steps", 0, 65536, 28); n > 0; --n) program.steps.push_back(read_step(in, program, version, ready));
  if (in.left()) damaged("bytes are left over after the last step");
  for (size_t v = 0; v < ready.size(); ++v)
    if (!ready[v]) fail("value '" + program.values[v].name + "' is computed by nothing");
  const int fed = program.feed.colour == Colour::kRaw ? 0 : program.feed.colour == Colour::kY ? 1 : 3;
  for (const std::vector<double>* mean : {&program.feed.mean, &program.feed.out_mean}) {
    const int v = mean == &program.feed.mean ? program.inputs[0] : program.outputs[0].value;
    const int channels = program.values[static_cast<size_t>(v)].channels;
    if (fed && fed != channels) fail("the network has " + std::to_string(channels) + " channels where pictures need " + std::to_string(fed));
    if (!mean->empty() && mean->size() != static_cast<size_t>(channels)) damaged("the number of means is not the number of channels");
  }
  return program;
}

}  // namespace fastsr
