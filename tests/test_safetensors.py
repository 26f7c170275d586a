"""safetensors files are read as the safetensors package reads them, .npz files as NumPy does, and damaged ones are refused at once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import slowness
from torch_files import safetensors_file

from fastsr.errors import ModelError
from fastsr.importers import load_graph, npz, safetensors

REAL = ("RealESRGAN_x4plus_anime_6B", "realesr-animevideov3")


def read(data: bytes) -> dict[str, np.ndarray]:
    return safetensors.tensors_of(data)


def file_of(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


@pytest.fixture(scope="module")
def package() -> Any:
    return pytest.importorskip("safetensors.numpy", reason="safetensors is not installed, with which the files are compared")


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str, shared: Path, package: Any) -> None:
    path = shared / "models" / "torch" / f"{name}.safetensors"
    got, expected = read(path.read_bytes()), package.load_file(path)
    assert got.keys() == expected.keys()
    assert list(got) == [k for k in json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]) if k != "__metadata__"]
    assert all(got[k].tobytes() == expected[k].tobytes() and got[k].shape == expected[k].shape for k in expected)


def test_time_and_memory(shared: Path) -> None:
    """18 MB: well under 50 ms, and less than three times the file."""
    path = shared / "models" / "torch" / f"{REAL[0]}.safetensors"
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from limits import peak_megabytes
from pathlib import Path
from fastsr.importers import safetensors
before, best = peak_megabytes(), 9.0
for _ in range(5):
    start = time.process_time()
    tensors = safetensors.tensors_of(Path({str(path)!r}).read_bytes())
    best = min(best, time.process_time() - start)
    del tensors
print(best, peak_megabytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 0.05 * slowness() and megabytes < 3 * path.stat().st_size / 1e6, done.stdout


def test_numbers_are_not_copied() -> None:
    data = safetensors_file({"a.weight": np.arange(1000, dtype=np.float32)})
    got = read(data)["a.weight"]
    assert np.shares_memory(got, np.frombuffer(data, np.uint8)) and not got.flags.writeable


def test_types_against_the_package(package: Any) -> None:
    kinds = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
    arrays = {f"{k}.weight": (np.arange(-12, 12) / (4 if k[0] == "f" else 1)).astype(np.float64).reshape(2, 3, 4) for k in kinds}
    arrays = {k: np.abs(v).astype(k.split(".")[0]) if k[0] == "u" else v.astype(k.split(".")[0]) for k, v in arrays.items()}
    arrays["no numbers"] = np.zeros((0, 3), np.float32)
    arrays["one number"] = np.array(3, np.float32)
    got = read(package.save(arrays, {"format": "pt"}))
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        expected = array.astype(np.float32) if array.dtype.kind == "f" else array
        assert got[name].dtype == expected.dtype and got[name].shape == array.shape and np.array_equal(got[name], expected), name


def test_small_types_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed, with which small types are compared")
    save = pytest.importorskip("safetensors.torch").save
    values = torch.arange(-50, 50).float() / 8
    tensors = {f"{k}.weight": values.to(getattr(torch, k)) for k in ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")}
    got = read(save(tensors))
    assert all(np.array_equal(got[k], v.float().numpy()) for k, v in tensors.items())


def test_numbers_at_odd_places() -> None:
    """Writers other than the package need not align the numbers."""
    header = {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}
    text = json.dumps(header).encode()
    for spaces in range(8):
        data = file_of(text + b" " * spaces, np.arange(3, dtype="<f4").tobytes())
        assert read(data)["a"].tolist() == [0, 1, 2] and read(data)["a"].flags.aligned


def test_wrappers_are_taken_off() -> None:
    one, two = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    assert list(read(safetensors_file({"module.a.weight": one, "module.b.weight": two}))) == ["a.weight", "b.weight"]
    got = read(safetensors_file({"discriminator.a.weight": two, "generator.a.weight": one}))
    assert list(got) == ["a.weight"] and got["a.weight"].all()


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "cut": (b"\x10\0\0", "cut off"),
    "cut header": (file_of({"a": ENTRY})[:20], "middle of its header"),
    "cut numbers": (file_of({"a": ENTRY}, bytes(7)), "middle of its weights"),
    "ten gigabytes of header": (file_of({"a": ENTRY}, bytes(8), 10 << 30), "header of"),
    "endless header": (file_of({"a": ENTRY}, bytes(8), (1 << 64) - 1), "header of"),
    "no json": (file_of(b'{"a": ', bytes(8)), "no JSON"),
    "no text": (file_of(b'{"\xff": 1}', bytes(8)), "no JSON"),
    "a list": (file_of([1], bytes(8)), "no JSON object"),
    "deep": (file_of(b"[" * 100_000, bytes(8)), "no JSON"),
    "a huge number": (file_of(b'{"a":' + b"9" * 100_000 + b"}", bytes(8)), "no JSON"),
    "no tensors": (file_of({"__metadata__": {"format": "pt"}}), "no tensors"),
    "entry": (file_of({"a": 3}, bytes(8)), "damaged header"),
    "no shape": (file_of({"a": {**ENTRY, "shape": None}}, bytes(8)), "damaged header"),
    "shape of texts": (file_of({"a": {**ENTRY, "shape": ["2"]}}, bytes(8)), "shape"),
    "shape of bools": (file_of({"a": {**ENTRY, "shape": [True, 2]}}, bytes(8)), "shape"),
    "negative shape": (file_of({"a": {**ENTRY, "shape": [-2]}}, bytes(8)), "shape"),
    "huge shape": (file_of({"a": {**ENTRY, "shape": [1 << 50, 0]}}, bytes(8)), "shape"),
    "many axes": (file_of({"a": {**ENTRY, "shape": [1] * 99 + [2]}}, bytes(8)), "shape"),
    "shape and bytes": (file_of({"a": {**ENTRY, "shape": [3]}}, bytes(8)), "does not fit"),
    "ten gigabytes": (file_of({"a": {"dtype": "F32", "shape": [2684354560], "data_offsets": [0, 10 << 30]}}, bytes(8)), "middle of its weights"),
    "backwards": (file_of({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)), "does not fit"),
    "negative": (file_of({"a": {**ENTRY, "data_offsets": [-8, 0]}}, bytes(8)), "damaged header"),
    "three offsets": (file_of({"a": {**ENTRY, "data_offsets": [0, 8, 9]}}, bytes(8)), "damaged header"),
    "overlap": (file_of({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)), "overlap"),
    "the same": (file_of({"a": ENTRY, "b": ENTRY}, bytes(8)), "overlap"),
    "type": (file_of({"a": {**ENTRY, "dtype": "F4"}}, bytes(8)), "type F4"),
    "type of no text": (file_of({"a": {**ENTRY, "dtype": [1]}}, bytes(8)), "type"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files(case: str, tmp_path: Path) -> None:
    data, words = DAMAGED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ModelError, match=words):
        read(data)
    assert time.process_time() - start < slowness()
    with pytest.raises(ModelError) as error:
        load_graph(path)
    assert str(path) in str(error.value)


def test_every_truncation_is_refused() -> None:
    data = safetensors_file({"a.weight": np.arange(9, dtype=np.float32), "a.bias": np.arange(3, dtype=np.float32)})
    assert len(read(data)) == 2
    for n in range(len(data)):
        with pytest.raises(ModelError):
            read(data[:n])


# ---- .npz --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save: Any, tmp_path: Path) -> None:
    arrays = {f"module.{k}": np.arange(24, dtype=k).reshape(2, 3, 4) for k in ("<f4", ">f4", "<f8", "<f2", "<i8", "|u1")}
    arrays["module.turned"] = np.asfortranarray(arrays["module.<f4"])
    arrays["module.none"] = np.zeros((0, 3), np.float32)
    arrays["module.one"] = np.array(3, np.float32)
    out = io.BytesIO()
    save(out, **arrays)
    got = npz.tensors_of(out)
    assert list(got) == [k.removeprefix("module.") for k in arrays]
    assert all(np.array_equal(got[k.removeprefix("module.")], v) and got[k.removeprefix("module.")].shape == v.shape for k, v in arrays.items())
    assert npz.probe(out.getvalue()[:4096], "model.npz")
    path = tmp_path / "model.pth"
    for n in range(0, len(out.getvalue()), 7):
        path.write_bytes(out.getvalue()[:n])
        with pytest.raises(ModelError):
            load_graph(path)


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([None]), np.zeros(2, np.complex64), np.zeros(2, [("a", "f4")])])
def test_npz_of_no_numbers(value: Any) -> None:
    out = io.BytesIO()
    np.savez(out, a=np.ones(3, np.float32), b=value)
    with pytest.raises(ModelError, match=r"'b\.npy'"):
        npz.tensors_of(out)
