// Every kernel of every instruction set that runs here against its obvious scalar meaning in double precision, and (--bench) how fast it is.
//
//   kernels_test [--seed N]       checks everything; exit code 0 when all passes. The digest it prints is a hash of all results of the vector sets:
//                                 the same seed gives the same digest on x86-64 and AArch64
//   kernels_test --isa            prints the instruction set in use, which FASTSR_ISA limits; exit code 2 and the message when that is no good
//   kernels_test --bench [isa]    GFLOP/s of the convolutions of kConvShapes and their share of the processor's measured multiply-add rate;
//                                 Winograd's algorithm next to the direct kernel; rates of the others
//
// One table of shapes drives both. Inputs are misaligned, end exactly kOverRead floats before an inaccessible page, and hold NaN wherever a kernel
// may read but must not use; outputs are full of a marker that must survive outside the row and its kOverWrite floats. Tolerances follow from the
// float epsilon and the number of terms. All instruction sets but scalar (whose multiply-adds round twice) must agree bit for bit, and so must a row
// computed whole and in parts.
#include "kernels_bench.h"
#include "kernels_fixture.h"
#include "kernels_winograd.h"
#include "kernels_winograd2d.h"

namespace {

void test_conv(const std::vector<const Kernels*>& isas, const ConvShape& s, int width, int variant) {
  ConvProblem p(s, width, false);
  ConvRow r = p.row(variant);
  const int lead = 3, x0 = pick(width), n = 1 + pick(width - x0);
  r.out_stride = width + kOverWrite + 5;
  std::vector<float> first;
  for (const Kernels* isa : isas) {
    std::vector<float> packed(isa->conv_pack_size(s.cout, s.cin, p.n_taps) + 16, kNaN);
    float* aligned = packed.data();
    while (reinterpret_cast<uintptr_t>(aligned) % 64) aligned++;
    isa->conv_pack(aligned, p.w.data(), s.cout, s.cin, p.n_taps);
    r.weights = aligned;
    Guarded out(lead + s.cout * r.out_stride);
    r.out = out.data + lead;
    isa->conv(r);
    check_conv_result(isa->isa, p, r);
    if (!out.intact(lead, r.out_stride, s.cout, width + kConvOverWrite))
      fail("%s conv %d->%d width %d writes outside its row", isa->isa, s.cin, s.cout, width);

    // The same pixels computed as a part of the row, which cuts blocks elsewhere.
    std::vector<const float*> shifted;
    for (const float* t : p.taps) shifted.push_back(t + x0);
    ConvRow part = r;
    part.taps = shifted.data();
    part.width = n;
    part.residual = r.residual ? r.residual + x0 : nullptr;
    Guarded out2(s.cout * (n + kOverWrite));
    part.out = out2.data;
    part.out_stride = n + kOverWrite;
    isa->conv(part);
    for (int k = 0; k < s.cout; k++)
      for (int x = 0; x < n; x++)
        if (!same(part.out[k * part.out_stride + x], r.out[k * r.out_stride + x0 + x])) {
          k = s.cout;
          fail("%s conv %d->%d: pixels %d..%d of %d differ from the whole row's", isa->isa, s.cin, s.cout, x0, x0 + n, width);
          break;
        }

    if (isa->isa == std::string("scalar")) continue;
    std::vector<float> dense;
    for (int k = 0; k < s.cout; k++) dense.insert(dense.end(), r.out + k * r.out_stride, r.out + k * r.out_stride + width);
    if (first.empty()) first = dense;
    if (!std::equal(dense.begin(), dense.end(), first.begin(), same))
      fail("%s conv %d->%d width %d: bits differ from the other sets'", isa->isa, s.cin, s.cout, width);
  }
  digest(first);
}

void test_convs(const std::vector<const Kernels*>& isas) {
  int variant = 0;
  for (const ConvShape& s : kConvShapes) {
    const long work = static_cast<long>(s.cin) * s.cout * s.kh * s.kw;
    for (int width = 1; width <= 70; width += work > 5000 ? 1 + pick(30) : work > 100 ? 1 + pick(9) : 1) test_conv(isas, s, width, variant++);
    for (int width : {96, 127, 193, 271}) {
      if (work < 40000) test_conv(isas, s, width, variant++);
    }
  }
  for (variant = 0; variant < 105; variant++) test_conv(isas, {3, 9, 2, 2, false}, 37, variant);  // every combination
}

// NaN and infinities pass through a convolution's store as docs/fsr.md's formulas say.
void test_conv_specials(const std::vector<const Kernels*>& isas) {
  const float in[] = {kNaN, kInf, -kInf, -0.0f};
  for (const Kernels* isa : isas)
    for (int a = 0; a < 5; a++) {
      std::vector<float> src(4 + kOverRead, 0.0f), dst(4 + kOverWrite);
      std::copy(in, in + 4, src.begin());
      const float* tap = src.data();
      alignas(64) float w[16];
      const float one = 1, slope = 0.5f;
      isa->conv_pack(w, &one, 1, 1, 1);
      ConvRow r{};
      r.taps = &tap;
      r.n_taps = r.cin = r.cout = 1;
      r.width = 4;
      r.weights = w;
      r.act = static_cast<Act>(a);
      r.a = r.act == Act::kClip ? -2.0f : 0.5f;
      r.b = 3.0f;
      r.slope = &slope;
      r.out = dst.data();
      isa->conv(r);
      const float high = r.act == Act::kClip ? 3.0f : kInf, low = r.act == Act::kClip ? -2.0f : r.act == Act::kRelu ? 0.0f : -kInf;
      if (!std::isnan(dst[0]) || dst[1] != high || dst[2] != low || dst[3] != 0.0f)
        fail("%s conv act %d of NaN, inf, -inf, -0: %g %g %g %g", isa->isa, a, dst[0], dst[1], dst[2], dst[3]);
    }
}

// ---- element-wise --------------------------------------------------------------------------------------------------------------------------------

struct PointwiseCase {
  Pointwise op;
  const char* name;
  float a, b;
  double (*want)(double x, double a, double b);
  double relative;   // tolerance, times |result|
  double condition;  // tolerance, times |result * x^2|: rounding of an exponent that grows like x^2
};

double gelu(double x, double a, double) {
  if (a == 0) return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * u));
}
double mish(double x, double, double) {
  if (x > 40) return x;
  const double e = std::exp(x);
  return x * (e * (e + 2) / (e * (e + 2) + 2));
}
double silu(double x, double, double) { return x / (1 + std::exp(-x)); }

const PointwiseCase kPointwise[] = {
    {Pointwise::kRelu, "relu", 0, 0, [](double x, double, double) { return std::max(x, 0.0); }, 0, 0},
    {Pointwise::kLeakyRelu, "leaky_relu", 0.2f, 0, [](double x, double a, double) { return x >= 0 ? x : a * x; }, kEps, 0},
    {Pointwise::kPRelu, "prelu", -0.3f, 0, [](double x, double a, double) { return x >= 0 ? x : a * x; }, kEps, 0},
    {Pointwise::kClip, "clip", -1.5f, 2, [](double x, double a, double b) { return std::min(std::max(x, a), b); }, 0, 0},
    {Pointwise::kTanh, "tanh", 0, 0, [](double x, double, double) { return std::tanh(x); }, 5 * kEps, 0},
    {Pointwise::kSigmoid, "sigmoid", 0, 0, [](double x, double, double) { return 1 / (1 + std::exp(-x)); }, 6 * kEps, 0},
    {Pointwise::kHardSigmoid, "hard_sigmoid", 0.2f, 0.5f, [](double x, double a, double b) { return std::min(std::max(a * x + b, 0.0), 1.0); }, 0, 0},
    {Pointwise::kHardSwish, "hard_swish", 0, 0, [](double x, double, double) { return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }, 0, 0},
    {Pointwise::kSilu, "silu", 0, 0, silu, 8 * kEps, 0},
    {Pointwise::kGelu, "gelu", 0, 0, gelu, 16 * kEps, 0},
    {Pointwise::kGelu, "gelu_tanh", 1, 0, gelu, 8 * kEps, 16 * kEps},
    {Pointwise::kMish, "mish", 0, 0, mish, 10 * kEps, 0},
    {Pointwise::kAbs, "abs", 0, 0, [](double x, double, double) { return std::fabs(x); }, 0, 0},
    {Pointwise::kNeg, "neg", 0, 0, [](double x, double, double) { return -x; }, 0, 0},
    {Pointwise::kSqrt, "sqrt", 0, 0, [](double x, double, double) { return std::sqrt(x); }, kEps, 0},
    {Pointwise::kAdd, "add", 1.7f, 0, [](double x, double a, double) { return x + a; }, kEps, 0},
    {Pointwise::kSub, "sub", 1.7f, 0, [](double x, double a, double) { return x - a; }, kEps, 0},
    {Pointwise::kMul, "mul", 1.7f, 0, [](double x, double a, double) { return x * a; }, kEps, 0},
    {Pointwise::kDiv, "div", 1.7f, 0, [](double x, double a, double) { return x / a; }, kEps, 0},
    {Pointwise::kMax, "max", 1.7f, 0, [](double x, double a, double) { return x < a ? a : x; }, 0, 0},
    {Pointwise::kMin, "min", 1.7f, 0, [](double x, double a, double) { return x > a ? a : x; }, 0, 0},
    {Pointwise::kRSub, "rsub", 1.7f, 0, [](double x, double a, double) { return a - x; }, kEps, 0},
    {Pointwise::kRDiv, "rdiv", 1.7f, 0, [](double x, double a, double) { return a / x; }, kEps, 0},
};

bool near(const PointwiseCase& c, const char* isa, float x, float got, double want) {
  checks++;
  if (std::isnan(want)) return std::isnan(got);
  if (static_cast<float>(want) == got) return true;
  const bool scalar = isa == std::string("scalar");  // its fma rounds twice
  double tolerance = c.relative * (scalar ? 3 : 1) * std::fabs(want) + 1.5e-45 + c.condition * std::fabs(want) * static_cast<double>(x) * x;
  if (scalar && c.op == Pointwise::kGelu) tolerance += 8 * kEps * std::fabs(want) * static_cast<double>(x) * x;
  if (c.op == Pointwise::kHardSigmoid) tolerance += 2 * kEps * (std::fabs(c.a * x) + std::fabs(c.b));
  if (c.op == Pointwise::kHardSwish) tolerance += 4 * kEps * std::fabs(x);
  if (std::fabs(want) < 1.3e-36) tolerance += 3e-43;  // denormals, of the result or of the sigmoid that it is x times, lose digits
  if (std::fabs(want) > 3.4028235e38) return std::isinf(got) && std::signbit(got) == std::signbit(want);
  return std::fabs(got - want) <= tolerance;
}

void test_unary(const std::vector<const Kernels*>& isas, const PointwiseCase& c) {
  // Bit patterns all over the float line, then the neighbourhood where activations live.
  std::vector<float> in{0.0f, -0.0f, kInf, -kInf, kNaN, 88.8f, -88.8f, 1e-30f, -1e-30f, 1e-42f, 3e38f, -3e38f};
  for (uint32_t u = rng() % 65521; u < 0xffff0000u; u += 65521)
    if (!std::isnan(unbits(u))) in.push_back(unbits(u));
  for (int i = 0; i < 60000; i++) in.push_back(uniform(-1, 1) * (i % 3 == 0 ? 1.0f : i % 3 == 1 ? 12.0f : 110.0f));
  std::vector<float> first;
  for (const Kernels* isa : isas) {
    std::vector<float> got = in;
    got.resize(in.size() + kOverWrite, 0.0f);
    isa->unary(c.op, got.data(), static_cast<int>(in.size()), c.a, c.b);
    for (size_t i = 0; i < in.size(); i++) {
      double want = c.want(in[i], c.a, c.b);
      if (std::isnan(in[i])) want = kNaN;
      if (in[i] == -kInf && (c.op == Pointwise::kSilu || c.op == Pointwise::kGelu || c.op == Pointwise::kMish)) want = 0;
      if (!near(c, isa->isa, in[i], got[i], want)) {
        fail("%s %s(%.9g) is %.9g, expected %.9g", isa->isa, c.name, in[i], got[i], want);
        break;
      }
    }
    if (isa->isa == std::string("scalar")) continue;
    if (first.empty()) first = got;
    if (!std::equal(in.begin(), in.end(), got.begin(), [&](const float& x, const float& y) { return same(first[&x - in.data()], y); }))
      fail("%s %s: bits differ from the other sets'", isa->isa, c.name);
  }
  first.resize(std::min(first.size(), in.size()));
  digest(first);
  for (int n = 1; n <= 70; n++) {
    const int lead = 1 + pick(15);
    for (const Kernels* isa : isas) {
      Guarded buffer(lead + n + kOverWrite);
      for (int i = 0; i < n; i++) buffer.data[lead + i] = in[i + 12];
      isa->unary(c.op, buffer.data + lead, n, c.a, c.b);
      if (!buffer.intact(lead, n + kOverWrite, 1, n + kOverWrite)) fail("%s %s of %d writes outside its row", isa->isa, c.name, n);
    }
  }
}

void test_binary(const std::vector<const Kernels*>& isas, const PointwiseCase& c) {
  for (int n = 1; n <= 300; n += n < 70 ? 1 : 77) {
    const int lead = 1 + pick(15);
    std::vector<float> x(n), first;
    for (float& v : x) v = uniform(-4, 4);
    Guarded y(n + kOverRead);
    for (int i = 0; i < n; i++) y.data[i] = i % 11 == 10 ? kNaN : uniform(-4, 4);
    if (n > 12) x[12] = kNaN;
    for (const Kernels* isa : isas) {
      Guarded buffer(lead + n + kOverWrite);
      std::copy(x.begin(), x.end(), buffer.data + lead);
      isa->binary(c.op, buffer.data + lead, y.data, n);
      for (int i = 0; i < n; i++) {
        const double want = std::isnan(x[i]) || std::isnan(y.data[i]) ? kNaN : c.want(x[i], y.data[i], 0);
        if (!near(c, isa->isa, x[i], buffer.data[lead + i], want)) {
          fail("%s binary %s(%g, %g) is %g, expected %g", isa->isa, c.name, x[i], y.data[i], buffer.data[lead + i], want);
          break;
        }
      }
      if (!buffer.intact(lead, n + kOverWrite, 1, n + kOverWrite)) fail("%s binary %s of %d writes outside its row", isa->isa, c.name, n);
    }
  }
}

// ---- shuffles and resizes ------------------------------------------------------------------------------------------------------------------------

void test_shuffle(const Kernels* isa, int n, int block, int lead) {
  std::vector<std::unique_ptr<Guarded>> rows;
  std::vector<const float*> src;
  for (int j = 0; j < block; j++) {
    rows.push_back(std::make_unique<Guarded>(n + kOverRead));
    for (int i = 0; i < n; i++) rows[j]->data[i] = static_cast<float>(1000 * j + i);
    src.push_back(rows[j]->data);
  }
  Guarded dst(lead + n * block + kOverWrite);
  isa->interleave(dst.data + lead, src.data(), n, block);
  checks += 2 * n * block;
  for (int i = 0; i < n * block; i++)
    if (!same(dst.data[lead + i], src[i % block][i / block])) return fail("%s interleave n %d block %d: wrong at %d", isa->isa, n, block, i);
  if (!dst.intact(lead, n * block + kOverWrite, 1, n * block + kOverWrite))
    fail("%s interleave n %d block %d writes outside its row", isa->isa, n, block);

  std::vector<std::unique_ptr<Guarded>> back;
  std::vector<float*> out;
  for (int j = 0; j < block; j++) {
    back.push_back(std::make_unique<Guarded>(lead + n + kOverWrite));
    out.push_back(back[j]->data + lead);
  }
  isa->deinterleave(out.data(), dst.data + lead, n, block);
  for (int i = 0; i < n * block; i++)
    if (!same(out[i % block][i / block], dst.data[lead + i])) return fail("%s deinterleave n %d block %d: wrong at %d", isa->isa, n, block, i);
  for (int j = 0; j < block; j++)
    if (!back[j]->intact(lead, n + kOverWrite, 1, n + kOverWrite)) fail("%s deinterleave n %d block %d writes outside its row", isa->isa, n, block);
}

void test_resize(const std::vector<const Kernels*>& isas, int n, int n_taps) {
  const int lead = 1 + pick(15), n_src = 1 + pick(2 * n);
  Guarded src(n_src + kOverRead);
  for (int i = 0; i < n_src; i++) src.data[i] = uniform(-1, 1);
  std::vector<int32_t> index(static_cast<size_t>(n) * n_taps);
  std::vector<float> coef(index.size()), first;
  // Neighbourhoods of a growing position, clamped as an enlargement does it, or anything.
  const bool neighbours = pick(3) > 0;
  const double step = uniform(0.2f, 1.2f);
  for (int i = 0; i < n * n_taps; i++)
    index[i] = neighbours ? std::min(std::max(static_cast<int>(i / n_taps * step) + i % n_taps - n_taps / 2, 0), n_src - 1) : pick(n_src);
  for (float& c : coef) c = uniform(-1, 1);
  std::vector<std::unique_ptr<Guarded>> rows;
  std::vector<const float*> row;
  for (int t = 0; t < n_taps; t++) {
    rows.push_back(std::make_unique<Guarded>(n + kOverRead));
    for (int i = 0; i < n; i++) rows[t]->data[i] = uniform(-1, 1);
    row.push_back(rows[t]->data);
  }
  for (const Kernels* isa : isas) {
    Guarded h(lead + n + kOverWrite), v(lead + n + kOverWrite);
    isa->resize_h(h.data + lead, src.data, index.data(), coef.data(), n_taps, n);
    isa->resize_v(v.data + lead, row.data(), coef.data(), n_taps, n);
    for (int i = 0; i < n; i++) {
      double wh = 0, wv = 0;
      for (int t = 0; t < n_taps; t++) {
        wh += static_cast<double>(coef[i * n_taps + t]) * src.data[index[i * n_taps + t]];
        wv += static_cast<double>(coef[t]) * row[t][i];
      }
      const double tolerance = 2 * n_taps * kEps * n_taps;  // every term is at most 1
      checks += 2;
      if (!(std::fabs(h.data[lead + i] - wh) <= tolerance))
        return fail("%s resize_h taps %d: [%d] is %g, expected %g", isa->isa, n_taps, i, h.data[lead + i], wh);
      if (!(std::fabs(v.data[lead + i] - wv) <= tolerance))
        return fail("%s resize_v taps %d: [%d] is %g, expected %g", isa->isa, n_taps, i, v.data[lead + i], wv);
    }
    if (!h.intact(lead, n + kOverWrite, 1, n + kOverWrite) || !v.intact(lead, n + kOverWrite, 1, n + kOverWrite))
      fail("%s resize n %d writes outside its row", isa->isa, n);
    if (isa->isa == std::string("scalar")) continue;
    std::vector<float> both(h.data + lead, h.data + lead + n);
    both.insert(both.end(), v.data + lead, v.data + lead + n);
    if (first.empty()) first = both;
    if (!std::equal(both.begin(), both.end(), first.begin(), same))
      fail("%s resize n %d taps %d: bits differ from the other sets'", isa->isa, n, n_taps);
  }
  digest(first);
}

// ---- dispatch ------------------------------------------------------------------------------------------------------------------------------------

void test_dispatch(const std::vector<const Kernels*>& isas) {
  if (isas.empty() || isas[0]->isa != std::string("scalar")) return fail("%s", "the scalar kernels are not the first");
  for (const Kernels* isa : isas) {
    set_isa(isa->isa);
    if (&kernels() != isa) fail("set_isa(%s) gives %s", isa->isa, kernels().isa);
  }
  set_isa("scalar");
  try {
    set_isa("sse9");
    fail("%s", "set_isa takes an unknown name");
  } catch (const Error& e) {
    if (e.kind != ErrorKind::kBackend || !std::strstr(e.what(), "scalar") || !std::strstr(e.what(), "sse9")) fail("unhelpful message: %s", e.what());
  }
  if (kernels().isa != std::string("scalar")) fail("%s", "a failed set_isa changes the instruction set");
  set_isa(nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  unsigned seed = std::random_device{}();
  const auto isas = available_kernels();
  for (int i = 1; i < argc; i++) {
    if (!std::strcmp(argv[i], "--bench")) {
      rng.seed(1);
      bench(isas, i + 1 < argc ? argv[i + 1] : "");
      return failures != 0;
    }
    if (!std::strcmp(argv[i], "--isa")) {
      try {
        std::printf("%s\n", kernels().isa);
        return 0;
      } catch (const Error& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 2;
      }
    }
    if (!std::strcmp(argv[i], "--seed") && i + 1 < argc) seed = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
  }
  rng.seed(seed);
  std::printf("seed %u, instruction sets:", seed);
  for (const Kernels* isa : isas) std::printf(" %s", isa->isa);
  std::printf("\n");
  test_convs(isas);
  test_conv_specials(isas);
  test_winograds(isas);
  for (int tile : {4, 6}) test_winograd2ds(isas, tile);
  for (const PointwiseCase& c : kPointwise) {
    test_unary(isas, c);
    if (c.op >= Pointwise::kAdd && c.op <= Pointwise::kRDiv) test_binary(isas, c);
  }
  for (int n = 1; n <= 70; n++) {
    for (const Kernels* isa : isas)
      for (int block : {1, 2, 3, 4, 5, 8}) test_shuffle(isa, n, block, n * block % 16);
    for (int taps : {1, 2, 3, 4, 6}) test_resize(isas, n, taps);
  }
  for (const Kernels* isa : isas)
    for (int block : {2, 3, 4}) test_shuffle(isa, 1001, block, 1);
  test_resize(isas, 1001, 4);
  if (!std::getenv("FASTSR_ISA")) test_dispatch(isas);
  std::printf("digest %016llx\n", static_cast<unsigned long long>(digest_value));
  std::printf("%ld values checked, %d failures\n", checks, failures);
  return failures != 0;
}
