"""The .fsr file: what is written is read back; anything damaged is refused."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from programs import Builder, espcn, random_programs

from fastsr import fsr
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.program import Program


def same(a: Program, b: Program) -> bool:
    arrays = lambda p: [t for s in p.steps for t in (s.weight, s.bias, *(e.tensor for e in s.epilogue)) if t is not None]  # noqa: E731
    return a.dump() == b.dump() and a.values == b.values and all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


@settings(max_examples=60, deadline=None)
@given(random_programs())
def test_round_trip(drawn: tuple[Program, int, int]) -> None:
    program = drawn[0]
    assert same(fsr.loads(fsr.dumps(program)), program)


def test_fine_luma_is_of_version_4() -> None:
    b = Builder(1)
    b.conv(0, 1)
    program = b.program(feed=Feed("y", 255.0, (1.0,), fine=True))
    data = bytearray(fsr.dumps(program))
    assert struct.unpack_from("<I", data, 8) == (4,)
    assert fsr.loads(bytes(data)).feed == program.feed
    struct.pack_into("<I", data, 8, 3)
    with pytest.raises(ModelError, match="colour"):
        fsr.loads(bytes(data))
    with pytest.raises(ModelError, match="only Y can be fed"):
        replace(program, feed=Feed("bgr", fine=True)).validate()


def test_round_trip_keeps_feed_meta_and_names(tmp_path) -> None:
    b = Builder(3)
    b.conv(0, 3)
    program = b.program(feed=Feed("bgr", 255.0, (1.0, 2.0, 3.0), 255.0, (4.0, 5.0, 6.0), 3))
    program.meta["source"] = "ä.pb"
    fsr.save(program, tmp_path / "x.fsr")
    again = fsr.load(tmp_path / "x.fsr")
    assert (again.feed, again.meta) == (program.feed, program.meta)
    assert [p.name for p in tmp_path.iterdir()] == ["x.fsr"]


@pytest.mark.parametrize("cut", [0, 7, 8, 63, 64, 100, -1])
def test_truncated_is_refused(cut: int) -> None:
    data = fsr.dumps(espcn(channels=(4, 4)))
    with pytest.raises(ModelError):
        fsr.loads(data[:cut])


def test_every_single_byte_change_is_refused() -> None:
    data = bytearray(fsr.dumps(espcn(channels=(2, 2))))
    for i in range(len(data)):
        data[i] ^= 0x40
        with pytest.raises(ModelError):
            fsr.loads(bytes(data))
        data[i] ^= 0x40
    fsr.loads(bytes(data))


def test_newer_version_says_upgrade() -> None:
    data = bytearray(fsr.dumps(espcn(channels=(2, 2))))
    struct.pack_into("<I", data, 8, 5)
    with pytest.raises(ModelError, match="upgrade fastsr"):
        fsr.loads(bytes(data))


def test_mutations_behind_a_right_checksum_are_refused_or_valid() -> None:
    """Random bytes in the program section with the checksum made right: either ModelError or a program that validates, never anything else."""
    data = fsr.dumps(espcn(channels=(3, 3)))
    rng = np.random.default_rng(20)
    size = struct.unpack_from("<Q", data, 40)[0]
    refused = 0
    for _ in range(3000):
        d = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            d[64 + rng.integers(size)] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, rng.integers(256)])
        struct.pack_into("<I", d, 24, zlib.crc32(bytes(d[64:])))
        try:
            fsr.loads(bytes(d)).validate()
        except ModelError:
            refused += 1
    assert 500 < refused < 3000
