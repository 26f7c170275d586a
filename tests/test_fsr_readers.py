"""The two readers of .fsr, fastsr/fsr.py and csrc/engine/fsr_reader.cpp, accept and refuse the same files.

Files are mutated behind a right checksum: every field in turn takes awkward values, bytes and pieces are changed at random, and whole programs
break one rule of docs/fsr.md each. The one difference allowed is the metadata, which the C++ core does not look at.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import Builder, espcn, shuffle

from fastsr import fsr
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program, Step, Value

core = pytest.importorskip("fastsr._core", reason="the C++ core is not built")

INTEGERS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 21, 22, 23, 64, 65, 255, 256, 257, 1024, 1025, 4096, 4097, 65535, 65536, 65537,
            2**31 - 1, 2**31, 2**32 - 1)  # fmt: skip
NUMBERS = (0.0, -0.0, 0.5, 1.0, -1.0, 2.0, 3.0, 16.0, 17.0, 255.0, 256.0, 257.0, 4096.0, 4097.0, 65536.0, 2.0**31, 2.0**32, 2.0**63, 1e-300, 1e39,
           -1e300, float("nan"), float("inf"), -float("inf"))  # fmt: skip


def mixed() -> Program:
    """All kinds of steps and operands."""
    b = Builder([2, 1])
    x = b.step("Pad", [0], 2, {"pt": 2, "pl": 1, "pb": 1, "pr": 2, "mode": 0, "value": 0.5})
    x = b.conv(x, 4, auto_pad=0, kh=4, kw=4, group=2, epilogue=[Epilogue("Clip", a=-1.0, b=1.0)])
    y = b.step("Concat", [x, 1, x], 9)
    y = b.step("Resize", [y], 9, {"mode": 2}, [Epilogue("Gelu"), Epilogue("Mul", tensor=b.normal(9)), Epilogue("Sub", tensor=b.normal(1))])
    y = b.conv(y, 4, sh=2, sw=2, bias=False, epilogue=[Epilogue("Relu"), Epilogue("Add", value=x), Epilogue("PRelu", tensor=b.normal(4))])
    y = b.step("SpaceToDepth", [y], 16, {"block": 2})
    y = b.step("DepthToSpace", [y], 4, {"block": 2}, [Epilogue("Add", a=1.0), Epilogue("RDiv", a=2.0), Epilogue("DepthToSpace", a=2.0)])
    b.step("Pointwise", [y], 1, {}, [Epilogue("Tanh")])
    program = b.program(y, y + 1)
    program.feed, program.meta = Feed("raw", 255.0, (1.0, 2.0), 255.0, (3.0,)), {"source": "ä"}
    return program


def quantised() -> Program:
    """Version 2: Quantize, with weights of int8 and of floats, and a shared tensor."""
    b = Builder([3])
    x = b.step("Pointwise", [0], 3, {}, [Epilogue("Div", a=0.02), Epilogue("Quantize", a=-128.0, b=127.0)])
    x = b.conv(x, 5, epilogue=[Epilogue("Mul", tensor=b.normal(5)), Epilogue("Relu"), Epilogue("Quantize", a=0.0, b=255.0), Epilogue("Relu")])
    x = b.conv(x, 4, bias=False, epilogue=[Epilogue("Quantize", a=-3.0, b=-3.0), Epilogue("Mul", a=0.5), Epilogue("DepthToSpace", a=2.0)])
    program = b.program(x)
    first = program.steps[1]
    assert first.weight is not None
    program.steps[1] = replace(first, weight=np.rint(first.weight * 90), bias=np.rint(b.normal(5) * 1000))
    return program


def sealed(data: bytes | bytearray) -> bytes:
    """The file with its size and checksum made right."""
    d = bytearray(data)
    struct.pack_into("<Q", d, 16, len(d))
    struct.pack_into("<I", d, 24, zlib.crc32(d[64:]))
    return bytes(d)


def verdict(read: Callable[[bytes], Any], data: bytes) -> str:
    """ "" for an accepted file, else the error. Anything but ModelError fails the test."""
    try:
        read(data)
    except ModelError as e:
        return str(e)
    return ""


class Compared:
    """Counts the files that both readers accept and refuse."""

    def __init__(self) -> None:
        self.accepted = self.refused = 0

    def file(self, data: bytes, note: object) -> None:
        python, cpp = verdict(fsr.loads, data), verdict(core.Model, data)
        assert bool(python) == bool(cpp), f"{note}: Python says {python or 'good'!r}, C++ says {cpp or 'good'!r}"
        self.accepted += not python
        self.refused += bool(python)


def fields(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(struct type, offset) of every number behind the metadata."""
    found: list[tuple[str, int]] = []

    class Recorder(fsr._Reader):
        def u32(self) -> int:
            found.append(("I", self.at + 64))
            return super().u32()

        def u32s(self, n: int) -> tuple[int, ...]:
            found.extend(("I", self.at + 64 + 4 * i) for i in range(n))
            return super().u32s(n)

        def f64s(self, n: int) -> tuple[float, ...]:
            found.extend(("d", self.at + 64 + 8 * i) for i in range(n))
            return super().f64s(n)

    with monkeypatch.context() as m:
        m.setattr(fsr, "_Reader", Recorder)
        fsr.loads(data)
    return found[1:]


def fine() -> Program:
    """A program of which Y is fed without rounding it."""
    return replace(espcn(channels=(3, 3)), feed=Feed("y", fine=True))


@pytest.mark.parametrize("make", [lambda: espcn(channels=(3, 3)), mixed, quantised, fine], ids=["espcn", "mixed", "quantised", "fine"])
def test_every_field_with_awkward_values(make: Callable[[], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    data, compared = fsr.dumps(make()), Compared()
    for kind, at in fields(data, monkeypatch):
        for value in INTEGERS if kind == "I" else NUMBERS:
            d = bytearray(data)
            struct.pack_into(f"<{kind}", d, at, value)
            compared.file(sealed(d), (kind, at, value))
    assert compared.accepted > 200 and compared.refused > 1000


def test_versions() -> None:
    """Version 1 has no Quantize; version 2 need not have it, nor versions 3 and 4 what is new in them."""
    for make, accepted in ((mixed, (1, 2, 3, 4)), (quantised, (2, 3, 4)), (fine, (4,))):
        data = bytearray(fsr.dumps(make()))
        assert struct.unpack_from("<I", data, 8)[0] == accepted[0]
        for version in (0, 1, 2, 3, 4, 5, 2**32 - 1):
            struct.pack_into("<I", data, 8, version)
            python, cpp = verdict(fsr.loads, sealed(data)), verdict(core.Model, sealed(data))
            assert bool(python) == bool(cpp) == (version not in accepted)
            known = make is fine and version in (1, 2, 3)  # then it is the colour that is refused
            assert not python or all(("colour" if known else "upgrade") in words for words in (python, cpp))


def test_header_fields() -> None:
    data, compared = fsr.dumps(mixed()), Compared()
    program_bytes, data_at = struct.unpack_from("<QQ", data, 40)
    places = (program_bytes - 1, program_bytes + 1, data_at - 64, data_at + 64, len(data))
    for at in range(32, 64, 8):
        for value in (0, 1, 63, 64, 65, 128, *places, 2**63, 2**64 - 64, 2**64 - 1):
            d = bytearray(data)
            struct.pack_into("<Q", d, at, value)
            compared.file(sealed(d), (at, value))
    for at in (8, 12, 28):
        for value in (0, 1, 2, 63, 64, 2**32 - 1):
            d = bytearray(data)
            struct.pack_into("<I", d, at, value)
            compared.file(sealed(d), (at, value))
    for cut in range(0, len(data), 7):
        compared.file(data[:cut], cut)
        compared.file(sealed(data[:cut].ljust(64, b"\0")), cut)
    assert compared.accepted > 2 and compared.refused > 100


def test_random_bytes_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, compared = np.random.default_rng(7), Compared()
    for data in (fsr.dumps(espcn(channels=(3, 3))), fsr.dumps(mixed()), fsr.dumps(quantised())):
        end = 64 + struct.unpack_from("<Q", data, 40)[0]
        start = fields(data, monkeypatch)[0][1]
        for k in range(2000):
            d = bytearray(data)
            if k % 2:
                for _ in range(rng.integers(1, 4)):
                    d[rng.integers(start, end)] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xC3, 0xFF, rng.integers(256)])
            else:  # a piece of the program copied over another place
                n = int(rng.integers(1, 40))
                a, b = rng.integers(start, end - n, 2)
                d[b : b + n] = data[a : a + n]
            compared.file(sealed(d), k)
    assert compared.accepted > 200 and compared.refused > 1000


def conv(b: Builder) -> Step:
    b.conv(0, 4)
    return b.steps[-1]


def wide_concat(b: Builder, _: Step) -> None:
    b.step("Concat", [1] * 1024, 4096)
    b.step("Concat", [2] * 20, 20 * 4096, {}, [shuffle(2)])


def wide_conv(b: Builder, step: Step) -> Step:
    b.values[-1] = Value("v", 2)
    weight = np.ones((2 * 65536, 1, 1, 1), np.float32)
    return replace(step, weight=weight, bias=None, params={**step.params, "kh": 1, "kw": 1}, epilogue=(shuffle(256),))


def broken() -> Iterator[tuple[str, Program]]:
    """Programs that break one rule each."""

    def one(name: str, change: Callable[[Builder, Step], Any], channels: int = 4, **feed: Any) -> tuple[str, Program]:
        b = Builder([channels])
        step = conv(b)
        changed = change(b, step)
        b.steps[-1] = changed if isinstance(changed, Step) else b.steps[-1]
        program = Program(b.values, b.inputs, [("out", len(b.values) - 1)], b.steps, Feed(**feed))
        return name, program

    def entry(*entries: Epilogue) -> Callable[[Builder, Step], Step]:
        return lambda b, s: replace(s, epilogue=entries)

    def params(**p: float) -> Callable[[Builder, Step], Step]:
        return lambda b, s: replace(s, params={**s.params, **p})

    t = np.ones(4, np.float32)
    yield one("relu with a tensor", entry(Epilogue("Relu", tensor=t)))
    yield one("tanh with a value", entry(Epilogue("Tanh", value=0)))
    yield one("two operands", entry(Epilogue("Add", value=0, tensor=t)))
    yield one("prelu of a value", entry(Epilogue("PRelu", value=0)))
    yield one("shuffle with a tensor", entry(Epilogue("DepthToSpace", tensor=t, a=1.0)))
    yield one("nan", entry(Epilogue("Add", a=float("nan"))))
    yield one("nan bound", entry(Epilogue("Clip", a=0.0, b=float("nan"))))
    yield one("tensor of another length", entry(Epilogue("Add", tensor=np.ones(3, np.float32))))
    yield one("tensor of two axes", entry(Epilogue("Add", tensor=np.ones((4, 1), np.float32))))
    yield one("65 entries", entry(*[Epilogue("Abs")] * 65))
    yield one("shuffle twice", entry(Epilogue("DepthToSpace", a=1.0), Epilogue("DepthToSpace", a=1.0)))
    yield one("shuffle by a huge block", entry(Epilogue("DepthToSpace", a=1e300)))
    yield one("shuffle by half", entry(Epilogue("DepthToSpace", a=0.5)))
    yield one("quantised to a half", entry(Epilogue("Quantize", a=0.0, b=1.5)))
    yield one("quantised from more to less", entry(Epilogue("Quantize", a=1.0, b=0.0)))
    yield one("quantised to infinity", entry(Epilogue("Quantize", a=0.0, b=float("inf"))))
    yield one("quantised to too much", entry(Epilogue("Quantize", a=0.0, b=float(2**20 + 1))))
    yield one("quantised to a tensor", entry(Epilogue("Quantize", tensor=t)))
    yield one("quantised to a value", entry(Epilogue("Quantize", value=0)))
    yield one("negative pad", params(auto_pad=0, pt=-1))
    yield one("pads beside auto_pad", params(pt=1))
    yield one("stride 0", params(sh=0))
    yield one("dilation too large", params(dh=4097))
    yield one("group that does not divide", params(group=3))
    yield one("two inputs", lambda b, s: replace(s, inputs=(0, 0)))
    yield one("reads itself", lambda b, s: replace(s, inputs=(s.output,)))
    yield one("adds itself", entry(Epilogue("Add", value=1)))
    yield one("writes its input", lambda b, s: replace(s, output=0))
    yield one("kernel of another size", lambda b, s: replace(s, weight=np.ones((4, 4, 3, 5), np.float32)))
    yield one("weight of three axes", lambda b, s: replace(s, weight=np.ones((4, 4, 3), np.float32)))
    yield one("bias too long", lambda b, s: replace(s, bias=np.ones(5, np.float32)))
    yield one("no weight", lambda b, s: replace(s, weight=None))
    yield one("a value that nothing makes", lambda b, s: b.values.insert(1, Value("lost", 1)) or replace(s, output=2))
    yield one("output with other channels", lambda b, s: b.values.__setitem__(1, Value("v", 5)))
    yield one("concat beyond 65536 channels", wide_concat)
    yield one("conv beyond 65536 channels", wide_conv, channels=1)
    yield one("space to depth beyond 65536 channels", lambda b, s: b.step("SpaceToDepth", [1], 4 * 129**2, {"block": 129}))
    yield one("pad value beyond float32", lambda b, s: b.step("Pad", [1], 4, {"value": 1e39}))
    yield one("mirrored crop", lambda b, s: b.step("Pad", [1], 4, {"pt": -1, "mode": 1}))
    yield one("resize by 0", lambda b, s: b.step("Resize", [1], 4, {"scale_h": 0.0}))
    yield one("luma with 4 channels", lambda b, s: s, colour="y")
    yield one("rgb with 4 channels", lambda b, s: s, colour="rgb")
    yield one("range 0", lambda b, s: s, range=0.0)
    yield one("infinite mean", lambda b, s: s, mean=(1.0, 2.0, 3.0, float("inf")))
    yield one("3 means", lambda b, s: s, mean=(1.0, 2.0, 3.0))
    yield one("pre_scale 17", lambda b, s: s, pre_scale=17)


@pytest.mark.parametrize(("name", "program"), list(broken()), ids=lambda x: x.replace(" ", "-") if isinstance(x, str) else "")
def test_broken_rules_are_refused_by_all(name: str, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError):
        program.validate()
    with monkeypatch.context() as m:
        m.setattr(Program, "validate", lambda self: None)
        data = fsr.dumps(program)
    compared = Compared()
    compared.file(data, name)
    assert compared.refused == 1


def test_largest_that_is_allowed() -> None:
    b = Builder([1])
    b.conv(0, 65536, kh=1, kw=1, bias=False, epilogue=[*[Epilogue("Abs")] * 63, Epilogue("DepthToSpace", a=256.0)])
    compared = Compared()
    compared.file(fsr.dumps(b.program()), "largest")
    assert compared.accepted == 1


def test_tensors_in_all_types() -> None:
    """Types other than float32 are written by no program of ours: a tensor's type and size are patched in."""
    b = Builder([1])
    b.step("Pointwise", [0], 1, {}, [Epilogue("Add", tensor=b.normal(1))])
    data = fsr.dumps(b.program())
    at = data.index(struct.pack("<III", 0, 1, 1), 64)
    for dtype, size in enumerate((4, 2, 1, 1, 4)):
        for n in (0, 1, 64 // size, 64 // size + 1, 2**31 - 1, 2**31):
            d = bytearray(data)
            struct.pack_into("<III", d, at, dtype, 1, n)
            python, cpp = verdict(fsr.loads, sealed(d)), verdict(core.Model, sealed(d))
            assert bool(python) == bool(cpp) == (n != 1), (dtype, n)


def test_tensors_may_not_overlap() -> None:
    """Many large tensors over the same bytes would take far more memory than the file."""
    b = Builder([1])
    for i in range(2):
        b.step("Pointwise", [i], 1, {}, [Epilogue("Add", tensor=b.normal(1))])
    data = bytearray(fsr.dumps(b.program()))
    second = data.index(struct.pack("<IIIQ", 0, 1, 1, 64), 64)
    data = data[: len(data) - 64]
    struct.pack_into("<Q", data, 56, 64)
    compared = Compared()
    struct.pack_into("<Q", data, second + 12, 0)
    compared.file(sealed(data), "64 bytes hold two tensors of 4")
    for at, size in ((second - 20, 16), (second, 16)):
        struct.pack_into("<I", data, at + 8, size)
        compared.file(sealed(data), "the whole of the data twice")
    assert (compared.accepted, compared.refused) == (1, 2)


def test_metadata_is_only_for_people() -> None:
    """Python refuses metadata that is no JSON object, however deep it is nested; the core ignores it."""
    data = fsr.dumps(espcn(channels=(2, 2)))
    for meta in (b"[]", b"{", b"[" * 60000, b"\xff", b"9" * 5000):
        d = data[:64] + struct.pack("<I", len(meta)) + meta + data[64 + 4 + struct.unpack_from("<I", data, 64)[0] :]
        old, size = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<Q", data, 48)[0]
        program_bytes = old + len(d) - len(data)
        rest = data[size:]
        body = d[64 : 64 + program_bytes]
        data_at = 64 + -(-len(body) // 64) * 64
        d = bytearray(d[:64] + body.ljust(data_at - 64, b"\0") + rest)
        struct.pack_into("<QQ", d, 40, program_bytes, data_at)
        assert verdict(fsr.loads, sealed(d))
        assert bool(verdict(core.Model, sealed(d))) == (meta == b"\xff")


def test_mutated_files(tmp_path: Path) -> None:
    """A short run of fuzz_fsr.py, in a process of its own: the memory that a file may ask for is measured there."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fuzz_fsr\nprint(dict(fuzz_fsr.run(3000, 1)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "'loaded'" in run.stdout and "'refused'" in run.stdout
