"""Pickles are read as data: what Python's own types come out as, that nothing is ever run, and that small files cannot ask for much."""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import subprocess
import sys
import time
from collections import OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from limits import slowness
from torch_files import Call, Global, Raw, Storages, dumps, legacy_file, zip_file, zipped

from fastsr.errors import ModelError
from fastsr.importers import load_graph, pickles, pytorch


def read(data: bytes) -> Any:
    return pickles.load(memoryview(data))[0]


# ---- Python's own types ------------------------------------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300)
    | st.integers(-(1 << 2000), 1 << 2000)
)
KEYS = st.text() | st.integers(-(1 << 59), 1 << 59) | st.binary() | st.booleans() | st.tuples(st.text(), st.integers(0, 9))
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.tuples(v, v) | st.tuples(v, v, v, v) | st.dictionaries(KEYS, v), max_leaves=30)


@given(VALUES, st.integers(0, 5))
def test_values_come_back(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    got, at = pickles.load(memoryview(b"xyz" + data + b"tail"), 3)
    assert got == value and at == len(data) + 3


@pytest.mark.parametrize("protocol", range(6))
def test_containers(protocol: int) -> None:
    shared: list[Any] = [1, "a"]
    value = {
        "ordered": OrderedDict([("b", 1), ("a", shared)]),
        "default": defaultdict(list, {"x": shared}),
        "set": {1},
        "frozen": frozenset([2]),
        "deque": deque([1, 2]),
        "bytes": b"\x00\xff",
        "array": bytearray(b"\x80"),
        "infinite": math.inf,
    }
    got = read(pickle.dumps(value, protocol))
    assert list(got["ordered"]) == ["b", "a"] and got["ordered"]["a"] is got["default"]["x"] == shared
    assert (got["set"], got["frozen"], got["bytes"], got["array"], got["infinite"]) == ([1], [2], b"\x00\xff", b"\x80", math.inf)
    itself: list[Any] = []
    itself.append(itself)
    got = read(pickle.dumps(itself, protocol))
    assert got[0] is got


def test_python_2_strings() -> None:
    assert read(b"(S'a\\n\\x41\\'b'\np0\nU\x03abcT\x02\x00\x00\x00\xff\xfeI01\nL5L\nVx\\u0041\nt.") == ("a\nA'b", "abc", b"\xff\xfe", True, 5, "xA")


def test_unknown_objects_are_written_down() -> None:
    """Settings of training programs: classes that are not here."""
    settings = Call(Global("argparse", "Namespace"), (), {"lr": 0.1}, by="newobj")
    config = Call(
        Global("omegaconf.dictconfig", "DictConfig"), (), {"_content": {"a": Call(Global("pathlib", "PosixPath"), ("/", "x"))}}, by="newobj"
    )
    for protocol in range(2, 6):
        got = read(dumps([settings, config, Global("os", "system"), Call(Global("made_up", "Net"), (1,), pairs={"a": 2})], protocol))
        assert got[0].is_a("argparse.Namespace") and got[0].state == {"lr": 0.1}
        assert got[1].state["_content"]["a"].args == ("/", "x")
        assert got[2].whole == "os.system"
        assert got[3].pairs == {"a": 2} and got[3].args == (1,)


# ---- nothing runs ------------------------------------------------------------------------------------------------------------------------------


def attacks(marker: Path) -> dict[str, bytes]:
    """Pickles that make the file `marker` when pickle.loads reads them."""
    command = f"echo > {marker}"
    system, python = Global(os.system.__module__, "system"), f"open({str(marker)!r}, 'w')"
    found = {}
    for protocol in (1, 2, 4):
        for by in ("reduce", "inst", "obj"):
            found[f"system {by} {protocol}"] = dumps(Call(system, (command,), by=by), protocol)
        found[f"eval {protocol}"] = dumps(Call(Global("builtins", "eval"), (python,)), protocol)
        found[f"exec {protocol}"] = dumps(Call(Global("builtins", "exec"), (python,)), protocol)
        found[f"open {protocol}"] = dumps(Call(Global("builtins", "open"), (str(marker), "w")), protocol)
        found[f"io.open {protocol}"] = dumps(Call(Global("io", "open"), (str(marker), "w")), protocol)
        found[f"Popen {protocol}"] = dumps(Call(Global("subprocess", "Popen"), (["touch", str(marker)],)), protocol)
        found[f"call {protocol}"] = dumps(Call(Global("subprocess", "check_call"), (["touch", str(marker)],)), protocol)
        if protocol > 1:
            found[f"nested {protocol}"] = dumps({"state_dict": {"a": Call(system, (command,))}, "x": [Call(system, (command,))]}, protocol)
        found[f"import {protocol}"] = dumps(
            Call(Call(Global("builtins", "getattr"), (Call(Global("importlib", "import_module"), ("os",)), "system")), (command,)), protocol
        )
    found["newobj Popen 2"] = dumps(Call(Global("subprocess", "Popen"), (["touch", str(marker)],), by="newobj"), 2)
    found["old name"] = dumps(Call(Global("__builtin__", "eval"), (python,)), 2)
    return found


def silent_attacks(marker: Path) -> dict[str, bytes]:
    """Pickles that make `marker`, or would with another class, through calls that are only written down here."""
    command = f"echo > {marker}"
    return {
        "partial": dumps(Call(Call(Global("functools", "partial"), (Global("posix", "system"), command)), ()), 2),
        "attribute": dumps(Call(Global("operator", "methodcaller"), ("system", command)), 2),
        "setstate": dumps(Call(Global("logging", "Logger"), ("x",), {"__setstate__": Global("os", "system"), "name": command}, by="newobj"), 2),
        "build a class": dumps(Raw(b"cmade_up\nNet\n}U\x0c__setstate__cos\nsystem\nsb"), 2),
        "dotted": dumps(Call(Global("torch", "os.system"), (command,)), 4),
        "torch.load": dumps(Call(Global("torch.hub", "load"), (command,)), 4),
        "exec in numpy": dumps(Call(Global("numpy.testing._private.utils", "runstring"), (f"open({str(marker)!r},'w')", {})), 2),
        "nested torch.load": dumps(Call(Global("torch.storage", "_load_from_bytes"), (dumps(Call(Global("posix", "system"), (command,)), 2),)), 3),
    }


@pytest.mark.skipif(os.name != "posix", reason="the attacks are for POSIX")
@pytest.mark.parametrize("form", ["plain", "legacy", "zip", "lightning"])
def test_nothing_runs(form: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    storages = Storages()
    weight = storages.tree({"a.weight": np.ones(3, np.float32)})
    words = {"loud": "tries to run code" + ("|not a file of torch" if form == "plain" else ""), "silent": "no named weights"}
    for kind, pickled in (("loud", attacks(marker)), ("silent", silent_attacks(marker))):
        for name, data in pickled.items():
            body = Raw(data[2 if data[:1] == b"\x80" else 0 : -1])
            root = {"state_dict": weight, "hyper_parameters": body} if form == "lightning" else body
            held = storages if form == "lightning" else Storages()
            path.write_bytes(data if form == "plain" else legacy_file(root, held) if form == "legacy" else zip_file(root, held))
            if form == "lightning" and kind == "silent":
                assert list(pytorch.tensors_of(io.BytesIO(path.read_bytes()))) == ["a.weight"], name
            else:
                with pytest.raises(ModelError, match=words[kind]) as error:
                    load_graph(path)
                assert str(path) in str(error.value)
            assert not marker.exists(), name


@pytest.mark.skipif(os.name != "posix", reason="the attacks are for POSIX")
def test_the_attacks_are_real(tmp_path: Path) -> None:
    """Python's own reader runs them: the test above would see it."""
    for k, (name, data) in enumerate({**attacks(tmp_path / "marker"), "partial": silent_attacks(tmp_path / "marker")["partial"]}.items()):
        (tmp_path / "marker").unlink(missing_ok=True)
        script = f"import pickle, sys; pickle.loads(open({str(tmp_path / f'{k}.pkl')!r}, 'rb').read())"
        (tmp_path / f"{k}.pkl").write_bytes(data)
        if k % 7 == 0 or name == "partial":
            subprocess.run([sys.executable, "-c", script], capture_output=True)
            for _ in range(50):
                if (tmp_path / "marker").exists():
                    break
                time.sleep(0.1)
            assert (tmp_path / "marker").exists(), name


def test_in_the_weights_themselves() -> None:
    """A tensor whose parts are calls: written down, and refused when it is read."""
    storages = Storages()
    bad = storages.tensor(np.ones(3, np.float32))
    bad.args = (Call(Global("made_up", "storage"), ()), *bad.args[1:])
    with pytest.raises(ModelError, match="damaged tensor"):
        pytorch.tensors_of(io.BytesIO(zip_file({"a": bad}, storages)))


# ---- small files that ask for much -------------------------------------------------------------------------------------------------------------


def bombs() -> dict[str, bytes]:
    laughs = b"\x80\x02]q\x00" + b"".join(b"(" + b"h" + bytes([k]) + (b"h" + bytes([k])) * 9 + b"l" + b"q" + bytes([k + 1]) for k in range(200))
    tuples = b"\x80\x02)\x94" + b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86\x94" for k in range(200))
    pairs = b"\x80\x02(" + b"".join(b"U\x01%c" % (k % 250) + b"K\x01\x86" for k in range(100_000)) + b"l\x94"
    text = b"\x80\x02X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"\x94U\x06latin1\x94"
    return {
        "laughs": laughs + b".",
        "tuples": tuples + b".",
        "tuples as keys": tuples + b"}h\xc8K\x01s.",
        "tuples as weights": tuples + b"}U\x01ah\xc8s.",
        "laughs as weights": laughs + b"}U\x01ah\xc8s.",
        "pairs again and again": pairs + b"ccollections\nOrderedDict\n\x94" + b"h\x01h\x00\x85R0" * 100_000 + b"h\x01.",
        "lists again and again": pairs + b"c__builtin__\nlist\n\x94" + b"h\x01h\x00\x85R0" * 100_000 + b"h\x01.",
        "texts again and again": text + b"c_codecs\nencode\n\x94" + b"h\x02h\x00h\x01\x86R" * 100_000 + b".",
        "states again and again": b"\x80\x02" + b"}" + b"U\x01aK\x01s" * 10_000 + b"q\x00cmade_up\nNet\n)\x81" + b"h\x00b" * 300_000 + b".",
        "deep lists": b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
        "deep marks": b"\x80\x02" + b"(" * 1_000_000 + b"l" * 1_000_000 + b".",
        "deep dictionaries": b"\x80\x02" + b"}U\x01a" * 200_000 + b"N" + b"s" * 200_000 + b".",
        "empty sets": b"\x80\x04" + b"\x8f" * 5_000_000 + b".",
        "empty dictionaries": b"\x80\x04" + b"}" * 5_000_000 + b".",
        "calls": b"\x80\x02cmade_up\nNet\n" + b"2)R0" * 2_000_000 + b".",
        "memo": b"\x80\x04N" + b"\x94" * 5_000_000 + b".",
        "scattered memo": b"\x80\x04N" + b"".join(b"r" + struct.pack("<I", k * 4099) for k in range(1_000_000)) + b".",
        "large memo key": b"\x80\x04Nr\xff\xff\xff\xffp18446744073709551615\n.",
        "long": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\x01" * 100 + b".",
        "negative long": b"\x80\x02\x8b\xff\xff\xff\xff" + b"\x01" * 100 + b".",
        "real long": b"\x80\x02\x8b\x00\x00\x10\x00" + b"\x01" * (1 << 20) + b".",
        "decimal long": b"L" + b"9" * 1_000_000 + b"L\n.",
        "decimal integer": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
        "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
        "ten gigabytes of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 10 << 30) + b"a.",
        "ten gigabytes in an array": b"\x80\x05\x96" + struct.pack("<Q", 10 << 30) + b"a.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
        "keys that collide": b"\x80\x02}"
        + b"".join(b"\x8a\x0a" + (k * ((1 << 61) - 1)).to_bytes(10, "little") + b"Ns" for k in range(1, 200_000))
        + b".",
        "nested files": b"\x80\x04B"
        + struct.pack("<I", 2_000_000)
        + b"\x80\x02"
        + b"N" * 1_999_997
        + b"."
        + b"\x940}"
        + b"".join(
            b"\x8c\x02%02dctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\nh\x00\x85RK\x00K\x01\x85K\x01\x85tRs" % k
            for k in range(90)
        )
        + b".",
        "many shared modules": b"\x80\x04"
        + b"}\x8c\x08_modules}\x94"
        + b"".join(b"X\x04\x00\x00\x00%04dcx\ny\n)R}\x8c\x08_modules}sbs" % k for k in range(9000))
        + b"s\x94"
        + b"0}"
        + b"".join(b"X\x04\x00\x00\x00%04dcx\ny\n)Rh\x01bs" % k for k in range(2000))
        + b".",
        "long shapes": b"\x80\x04("
        + b"K\x01" * 100_000
        + b"t\x940}"
        + b"".join(b"X\x04\x00\x00\x00%04dctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x00h\x00tRs" % k for k in range(9000))
        + b".",
        "long keys": b"\x80\x02}" + 2 * (b"X" + struct.pack("<I", 900_000) + b"a" * 900_000 + b"\x940") + b"h\x00Nsh\x01Ns" * 125_000 + b".",
        "long names": b"\x80\x04"
        + 2 * (b"X" + struct.pack("<I", 900_000) + b"a" * 900_000 + b"\x940")
        + b"h\x00h\x00\x930h\x01h\x01\x930" * 125_000
        + b"N.",
        "bytes as keys of many": b"\x80\x04}"
        + b"B"
        + struct.pack("<I", 900_000)
        + b"a" * 900_000
        + b"\x940"
        + b"".join(b"X\x05\x00\x00\x00%05d}h\x00Nss" % k for k in range(40_000))
        + b".",
        "no newline": b"\x80\x02c" + b"a" * 5_000_000,
        "lines": b"I1\n0" * 1_000_000,
        "persistent": b"\x80\x02" + b"P1\n" * 1_000_000,
        "extension": b"\x80\x02\x82\x01.",
        "buffer": b"\x80\x05\x97.",
        "underflow": b"\x80\x02.",
        "too many marks": b"\x80\x02tttt.",
    }


READ_ALL = """
import gc, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from limits import peak_megabytes
from fastsr.errors import ModelError
from fastsr.importers import load_graph
before = peak_megabytes()
for path in sorted(Path(sys.argv[2]).iterdir()):
    start = time.process_time()
    try:
        load_graph(path)
    except ModelError:
        print(path.stem, time.process_time() - start, peak_megabytes() - before, sep="\\t")
    gc.collect()
"""


def test_bombs(tmp_path: Path) -> None:
    """In a process of its own: each is refused after less than 2 s of processor time, with less than 200 MB beyond what the file takes."""
    all_bombs = bombs()
    for name, data in all_bombs.items():
        (tmp_path / f"{name}.pth").write_bytes(data)
    done = subprocess.run([sys.executable, "-c", READ_ALL, str(Path(__file__).parent), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = {name: (float(seconds), float(megabytes)) for name, seconds, megabytes in (line.split("\t") for line in done.stdout.splitlines())}
    assert seen.keys() == all_bombs.keys()
    largest = max(path.stat().st_size for path in tmp_path.iterdir()) / 1e6
    assert not {name: s for name, (s, _) in seen.items() if s > 2 and s > 2 * slowness()}
    assert max(m for _, m in seen.values()) < 200 + 2 * largest, done.stdout


def test_long_extra_fields_take_no_time(tmp_path: Path) -> None:
    """Members with 16 thousand empty extra fields each, as many as fit."""
    start, count = b"PK\x03\x04" + bytes(26), 60
    fields = b"\x09\x00\x00\x00" * 16_383
    table = b"".join(b"PK\x01\x02" + bytes(24) + struct.pack("<HH", 2, len(fields)) + bytes(14) + b"%02d" % k + fields for k in range(count))
    path = tmp_path / "model.pth"
    path.write_bytes(start + table + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, count, count, len(table), len(start), 0))
    begin = time.process_time()
    with pytest.raises(ModelError, match="zip archive without a model"):
        load_graph(path)
    seconds = time.process_time() - begin
    assert seconds < 2 or seconds < 2 * slowness()


def test_zip_bombs(tmp_path: Path) -> None:
    """Members that unpack to far more than they are, truly and by declaration, are refused before they are unpacked."""
    storages = Storages()
    root = storages.tree({"a": np.zeros(64 << 18, np.float32)})
    path = tmp_path / "model.pth"
    path.write_bytes(zip_file(root, storages, deflate=True))
    assert path.stat().st_size < 100_000
    with pytest.raises(ModelError, match="far more"):
        load_graph(path)
    data = bytearray(zipped({"a/data.pkl": pickle.dumps({"a": 1}, 2) + bytes(1000)}, deflate=True))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", (1 << 32) - 2)
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ModelError, match="far more"):
        load_graph(path)
    assert time.process_time() - start < slowness()
