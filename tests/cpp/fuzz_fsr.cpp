// Feeds mutated .fsr files to the reader and runs what it accepts on tiny pictures. With libFuzzer (-fsanitize=fuzzer, FASTSR_LIBFUZZER defined) or alone:
//   fuzz_fsr COUNT SEED FILE...     mutates the files COUNT times
// The checksum and the sizes of the header are put right after each mutation, so that the parser behind them is reached.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/arrays.h"
#include "engine/fsr_reader.h"
#include "engine/run.h"

namespace {

using namespace fastsr;
using Bytes = std::vector<uint8_t>;

void put(Bytes& file, size_t at, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) file[at + i] = static_cast<uint8_t>(value >> 8 * i);
}

uint64_t get(const Bytes& file, size_t at) {
  uint64_t v = 0;
  for (size_t i = 0; i < 8; ++i) v |= static_cast<uint64_t>(file[at + i]) << 8 * i;
  return v;
}

void repair(Bytes& file) {
  if (file.size() < 64) return;
  static const uint8_t start[16] = {0x89, 'F', 'S', 'R', '\r', '\n', 0x1A, '\n', 1, 0, 0, 0, 64, 0, 0, 0};
  std::memcpy(file.data(), start, sizeof start);
  put(file, 16, file.size(), 8);
  const uint64_t data_at = get(file, 48);
  if (data_at <= file.size()) put(file, 56, file.size() - data_at, 8);
  put(file, 28, 0, 4);
  put(file, 32, 64, 8);
  put(file, 24, crc32(file.data() + 64, file.size() - 64), 4);
}

// Returns whether the file was accepted.
bool run_file(const Bytes& file) {
  try {
    // Every fourth file in the precision `fast`, which runs it on a picture of its own first; quantised ones in int8.
    PlanOptions precision;
    precision.precision = Precision::kAuto;
    if (crc32(file.data(), file.size()) % 4 == 0) {
      const Model f32({file.data(), file.size()});
      if (f32.cost(128, 160, 0).flops < 2e7) precision.precision = Precision::kFast;
    }
    const Model model({file.data(), file.size()}, precision);
    const Program& p = model.plan().program;
    for (const Size size : {Size{1, 1}, Size{6, 9}, Size{24, 12}}) {
      try {
        const Model::Cost cost = model.cost(size.h, size.w, 7);
        if (cost.flops > 2e6 || cost.bytes > 32e6) continue;
        std::vector<std::vector<float>> in, out;
        std::vector<ArraySource> sources;
        std::vector<ArraySink> sinks;
        std::vector<int> outputs;
        for (int v : p.inputs) {
          const int c = p.values[static_cast<size_t>(v)].channels;
          in.emplace_back(static_cast<size_t>(c) * static_cast<size_t>(size.h * size.w), 0.5f);
          sources.emplace_back(in.back().data(), c, size.h, size.w, ptrdiff_t{size.h} * size.w, size.w);
        }
        double wanted = 0;
        for (size_t o = 0; o < p.outputs.size(); ++o) {
          const Size s = model.output_size(static_cast<int>(o), size.h, size.w);
          const int c = p.values[static_cast<size_t>(p.outputs[o].value)].channels;
          wanted += static_cast<double>(c) * s.h * s.w;
          if (wanted > 4e6) break;
          outputs.push_back(static_cast<int>(o));
          out.emplace_back(static_cast<size_t>(c) * static_cast<size_t>(s.h) * static_cast<size_t>(s.w));
          sinks.emplace_back(out.back().data(), c, ptrdiff_t{s.h} * s.w, s.w);
        }
        if (outputs.empty()) continue;
        std::vector<const Source*> from;
        std::vector<Sink*> to;
        for (const ArraySource& s : sources) from.push_back(&s);
        for (ArraySink& s : sinks) to.push_back(&s);
        RunOptions options;
        options.threads = 1;
        options.tile = 7;
        options.teams = size.h % 2 ? Teams::kNone : Teams::kAlways;
        model.run(from, outputs, to, options);
      } catch (const Error&) {
      }
    }
    return true;
  } catch (const Error& e) {
    if (!*e.what()) std::abort();
    return false;
  }
}

}  // namespace

#ifdef FASTSR_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes file(data, data + size);
  repair(file);
  run_file(file);
  return 0;
}
#else
namespace {

void mutate(Bytes& file, std::mt19937_64& random) {
  const auto below = [&](uint64_t n) { return static_cast<size_t>(random() % (n ? n : 1)); };
  static const uint32_t words[] = {0, 1, 2, 3, 7, 8, 16, 64, 255, 4096, 4097, 65535, 65536, 65537, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};
  static const double numbers[] = {0, -0.0, 1, 2, 3, -1, -3, 0.5, 64, 257, 4096, 4097, 1e9, -1e9, 1e300, 5e-324, 1e-9, 2147483647, 2147483648.0, -2147483649.0};
  for (size_t n = 1 + below(4); n > 0 && file.size() > 72; --n) {
    // Mostly in the program section, where the structure is.
    const size_t end = below(8) ? std::min<size_t>(file.size(), static_cast<size_t>(64 + std::min<uint64_t>(get(file, 40), file.size() - 64))) : file.size();
    const size_t at = 32 + below(end - 32 > 8 ? end - 40 : 1);
    switch (below(7)) {
      case 0: file[at] ^= static_cast<uint8_t>(1u << below(8)); break;
      case 1: file[at] = static_cast<uint8_t>(random()); break;
      case 2: put(file, std::min(at, file.size() - 4), words[below(std::size(words))], 4); break;
      case 3: {
        const double v = numbers[below(std::size(numbers))];
        std::memcpy(file.data() + std::min(at, file.size() - 8), &v, 8);
        break;
      }
      case 4: file.resize(at + below(file.size() - at + 1)); break;
      case 5: {
        const size_t bytes = std::min<size_t>(1 + below(24), file.size() - at);
        file.insert(file.begin() + static_cast<ptrdiff_t>(at), file.begin() + static_cast<ptrdiff_t>(at), file.begin() + static_cast<ptrdiff_t>(at + bytes));
        break;
      }
      default: {
        const size_t other = 64 + below(file.size() - 72), bytes = std::min<size_t>(1 + below(16), file.size() - std::max(at, other));
        std::memmove(file.data() + at, file.data() + other, bytes);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "usage: fuzz_fsr COUNT SEED FILE...\n"), 2;
  std::vector<Bytes> seeds;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (!run_file(seeds.back())) return std::fprintf(stderr, "%s is not a good file\n", argv[i]), 1;
  }
  std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
  const long long count = std::atoll(argv[1]);
  long long accepted = 0;
  for (long long i = 0; i < count; ++i) {
    Bytes file = seeds[random() % seeds.size()];
    mutate(file, random);
    repair(file);
    accepted += run_file(file);
  }
  std::printf("%lld mutated files, %lld accepted and run, no crash\n", count, accepted);
  return accepted > 0 ? 0 : 1;
}
#endif
