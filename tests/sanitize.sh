#!/bin/sh
# The core under sanitizers. Usage: tests/sanitize.sh [address] [thread] [fuzz]   (default: all three)
#   address  the extension with AddressSanitizer and UndefinedBehaviorSanitizer, under the whole test-suite
#   thread   the pool and concurrent runs under ThreadSanitizer
#   fuzz     FUZZ_COUNT (100000) mutated .fsr files through the reader and the engine, with both of address
# Environment: CXX (g++), CC (gcc), PYTHON (python), FUZZ_COUNT, JOBS (2: how many compilers or fuzzers at a time), PYTEST_ARGS (e.g. "-n 2").
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python}
cxx=${CXX:-g++}
jobs=${JOBS:-2}
flags="-std=c++17 -O1 -g1 -fno-omit-frame-pointer -ffp-contract=off -I$root/csrc -I$root/csrc/include"
core="$root/csrc/base/*.cpp $root/csrc/engine/*.cpp $root/csrc/targets/*.cpp"
vector_units="$root/csrc/targets/*avx*.cpp $root/csrc/targets/*neon*.cpp"

# compile FOLDER FLAGS UNIT...: every unit's object, $jobs at a time.
compile() {
  folder=$1 options=$2
  shift 2
  mkdir -p "$folder"
  printf '%s\n' "$@" | xargs -P "$jobs" -I '{}' sh -c "$cxx $flags $options -c '{}' -o \"$folder/\$(basename '{}' .cpp).o\""
}

seeds() {
  (cd "$root/tests" && PYTHONPATH="$root" "$python" - "$work" <<'PY'
import sys
import numpy as np
from programs import Builder
from fastsr import fsr
from fastsr.graph import Feed
from fastsr.program import Epilogue

def save(name, b, colour="raw"):
    program = b.program()
    program.feed = Feed(colour)
    with open(f"{sys.argv[1]}/{name}.fsr", "wb") as f:
        f.write(fsr.dumps(program))

b = Builder([1])
x = b.conv(0, 8, kh=5, kw=5, epilogue=[Epilogue("PRelu", tensor=b.normal(8))])
b.conv(x, 4, epilogue=[Epilogue("DepthToSpace", a=2.0), Epilogue("Tanh")])
save("y", b, "y")
b = Builder([2, 1])
x = b.step("Pad", [0], 2, {"pt": 2, "pl": 1, "pb": 1, "pr": 2, "mode": 0, "value": 0.5})
x = b.conv(x, 4, auto_pad=0, kh=4, kw=4, group=2, epilogue=[Epilogue("Clip", a=-1.0, b=1.0)])
y = b.step("Concat", [x, 1, x], 9)
z = b.step("Resize", [y], 9, {"mode": 2, "scale_h": 2.0, "scale_w": 2.0}, [Epilogue("Gelu"), Epilogue("Mul", tensor=b.normal(9))])
z = b.conv(z, 4, sh=2, sw=2, dh=2, dw=2, epilogue=[Epilogue("Relu"), Epilogue("Add", value=x)])
b.step("DepthToSpace", [z], 1, {"block": 2}, [Epilogue("Add", a=1.0), Epilogue("RDiv", a=2.0)])
save("mixed", b)
b = Builder([1])
x = b.step("Pad", [0], 1, {"pt": 0, "pl": 0, "pb": 0, "pr": 0, "mode": 3})
b.step("SpaceToDepth", [x], 1, {"block": 1}, [Epilogue("Sub", value=0), Epilogue("HardSigmoid", a=0.2, b=0.5)])
save("tiny", b)
b = Builder([1])
x = b.conv(0, 8)
y = b.conv(x, 8, pt=2, pl=1, pb=0, pr=1, epilogue=[Epilogue("Relu"), Epilogue("Add", value=x)])
b.conv(y, 32, epilogue=[Epilogue("LeakyRelu", a=0.1), Epilogue("DepthToSpace", a=2.0), Epilogue("Tanh")])
save("winograd", b)
b = Builder([1])
x = b.conv(0, 24, epilogue=[Epilogue("Relu")])
y = b.conv(x, 24, epilogue=[Epilogue("PRelu", tensor=b.normal(24))])
z = b.step("Concat", [x, y], 48)
z = b.conv(z, 24, epilogue=[Epilogue("Add", value=x)])
b.conv(z, 4, epilogue=[Epilogue("DepthToSpace", a=2.0)])
save("dense", b, "y")
PY
  )
}

address() {
  echo "== extension under address and undefined"
  mkdir -p "$work/site"
  (cd "$root" && FASTSR_SANITIZE=address,undefined FASTSR_BUILD_JOBS=$jobs CC=${CC:-gcc} CXX=$cxx "$python" setup.py -q build_ext --build-lib "$work/site" --build-temp "$work/temp")
  cp -r "$root/fastsr" "$work/package"
  rm -f "$work"/package/_core*.so
  cp -r "$work/package/." "$work/site/fastsr/"
  preload="$($cxx -print-file-name=libasan.so) $($cxx -print-file-name=libubsan.so) $($cxx -print-file-name=libstdc++.so)"
  # Not from $root: Python puts the current folder first, and there lies the other build.
  export PYTHONPATH="$work/site" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
  (cd "$work" && LD_PRELOAD="$preload" "$python" -c "import fastsr._core as c; assert c.__file__.startswith('$work'), c.__file__")
  # shellcheck disable=SC2086
  (cd "$work" && LD_PRELOAD="$preload" "$python" -m pytest -q -p no:cacheprovider -c "$root/pyproject.toml" --rootdir "$root" ${PYTEST_ARGS:-} "$root/tests")
  unset PYTHONPATH ASAN_OPTIONS UBSAN_OPTIONS
}

thread() {
  echo "== pool and concurrent runs under thread"
  seeds
  # shellcheck disable=SC2086
  compile "$work/tsan" -fsanitize=thread $core "$root/tests/cpp/threads_test.cpp"
  $cxx -fsanitize=thread "$work"/tsan/*.o -o "$work/threads_test" -pthread
  TSAN_OPTIONS=halt_on_error=1 "$work/threads_test" "$work/y.fsr"
  # Vectors reach beyond the last channel of what they read, where another thread may be making the next value of a Concat; they do not use it.
  FASTSR_ISA=scalar TSAN_OPTIONS=halt_on_error=1 "$work/threads_test" "$work/y.fsr" "$work/dense.fsr"
}

fuzz() {
  echo "== mutated .fsr files under address and undefined"
  seeds
  # The scalar kernels are checked too; the others only have to be there.
  # shellcheck disable=SC2086
  compile "$work/plain" "-O0 -g0" $vector_units
  checks="-fsanitize=address,undefined -fno-sanitize-recover=all"
  # shellcheck disable=SC2046
  compile "$work/asan" "$checks" $(for unit in $core "$root/tests/cpp/fuzz_fsr.cpp"; do [ -f "$work/plain/$(basename "$unit" .cpp).o" ] || echo "$unit"; done)
  $cxx $checks "$work"/plain/*.o "$work"/asan/*.o -o "$work/fuzz_fsr" -pthread
  export FASTSR_ISA=scalar
  export ASAN_OPTIONS=allocator_may_return_null=1
  seq "$jobs" | xargs -P "$jobs" -I '{}' "$work/fuzz_fsr" $(((${FUZZ_COUNT:-100000} + jobs - 1) / jobs)) '{}' \
    "$work/y.fsr" "$work/mixed.fsr" "$work/tiny.fsr" "$work/winograd.fsr" "$work/dense.fsr"
  unset FASTSR_ISA ASAN_OPTIONS
}

for part in "${@:-address}" $([ $# -gt 0 ] || echo thread fuzz); do "$part"; done
