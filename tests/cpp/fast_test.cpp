// Every kernel of the tier `fast` of every instruction set that runs here.
//
//   fast_test [--seed N]     checks everything; exit code 0 when all passes. The digest it prints is a hash of all results of the vector sets: the same
//                            seed gives the same digest on x86-64 and AArch64
//   fast_test --bench [isa]  rates of the convolution
//
// Inputs are misaligned, end exactly kOverRead elements before an inaccessible page, and hold NaN wherever a kernel may read but must not use; outputs
// are full of a marker that must survive outside the row and its kOverWrite elements. The convolutions' integer arithmetic is modelled operation by
// operation, so every result is compared bit for bit.
#include "kernels_conv16.h"
#include "kernels_conv16_rows.h"
#include "kernels_conv8.h"
#include "kernels_fast.h"
#include "kernels_fast_bench.h"

int main(int argc, char** argv) {
  unsigned seed = std::random_device{}();
  const auto isas = available_fast_kernels();
  for (int i = 1; i < argc; i++) {
    if (!std::strcmp(argv[i], "--bench")) {
      rng.seed(1);
      bench_fast(isas, i + 1 < argc ? argv[i + 1] : "");
      bench_conv8s(isas, i + 1 < argc ? argv[i + 1] : "");
      return failures != 0;
    }
    if (!std::strcmp(argv[i], "--seed") && i + 1 < argc) seed = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
  }
  rng.seed(seed);
  std::printf("seed %u, instruction sets:", seed);
  for (const FastKernels* isa : isas) std::printf(" %s", fast_name(isa).c_str());
  std::printf("\n");
  test_fast(isas);
  test_conv16(isas);
  test_conv16_rows(isas);
  test_conv8(isas);
  std::printf("digest %016llx\n", static_cast<unsigned long long>(digest_value));
  std::printf("%ld values checked, %d failures\n", checks, failures);
  return failures != 0;
}
