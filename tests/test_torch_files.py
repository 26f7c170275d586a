"""PyTorch files are read as torch.load reads them, in every form that torch has written, without torch and without running anything."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import Call, Global, Pid, Storages, dumps, legacy_file, zip_file, zipped

from fastsr.errors import ModelError
from fastsr.importers import load_graph, pytorch


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed, with which the files are compared")


def read(data: bytes) -> dict[str, np.ndarray]:
    return pytorch.tensors_of(io.BytesIO(data))


def saved(torch: Any, value: Any, **how: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **how)
    return out.getvalue()


def assert_same(got: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    """The same names in the same order, the same numbers bit for bit; expected: torch's tensors."""
    expected = {k: v.detach() for k, v in expected.items() if not k.endswith("num_batches_tracked")}
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        array = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
        assert got[name].dtype == array.dtype and got[name].shape == array.shape, name
        assert got[name].flags.c_contiguous and got[name].flags.aligned
        assert got[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


def network(torch: Any) -> Any:
    nn = torch.nn
    torch.manual_seed(1)
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU(4))
    return nn.Sequential(nn.Conv2d(3, 4, 3), inner, nn.ConvTranspose2d(4, 3, 4, stride=2))


# ---- real files --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FSRCNN_x2", "IMDN_x2", "SRGAN_leftthomas_x4", "realesr-animevideov3.deflated"])
def test_real_files(name: str, shared: Path, torch: Any) -> None:
    path = shared / "models" / "torch" / f"{name}.pth"
    expected = torch.load(path, map_location="cpu", weights_only=True)
    assert_same(read(path.read_bytes()), {k.removeprefix("module."): v for k, v in expected.get("params", expected).items()})


def test_real_module_of_python_2(shared: Path) -> None:
    """torch itself needs the source code of the network for this file."""
    got = read((shared / "models" / "torch" / "VDSR_whole_module_py2.pth").read_bytes())
    names = [f"residual_layer.{k}.conv.weight" for k in range(18)] + ["input.weight", "output.weight"]
    assert list(got) == names
    assert [got[n].shape for n in names] == [(64, 64, 3, 3)] * 18 + [(64, 1, 3, 3), (1, 64, 3, 3)]
    assert all(0.001 < np.abs(a).mean() < 0.2 for a in got.values())


def test_the_deflated_copy_is_the_safetensors_file(shared: Path) -> None:
    from fastsr.importers import safetensors

    folder = shared / "models" / "torch"
    a = read((folder / "realesr-animevideov3.deflated.pth").read_bytes())
    b = safetensors.tensors_of((folder / "realesr-animevideov3.safetensors").read_bytes())
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# ---- forms -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("zip_form", [True, False])
def test_state_dicts(protocol: int, zip_form: bool, torch: Any) -> None:
    net = network(torch)
    data = saved(torch, net.state_dict(), pickle_protocol=protocol, _use_new_zipfile_serialization=zip_form)
    assert_same(read(data), net.state_dict())


@pytest.mark.parametrize("zip_form", [True, False])
@pytest.mark.parametrize("wrap", [False, True])
def test_whole_modules(zip_form: bool, wrap: bool, torch: Any) -> None:
    net = network(torch)
    net.register_buffer("kept", torch.arange(3.0))
    net.register_buffer("left_out", torch.arange(3.0), persistent=False)
    whole = {"epoch": 3, "model": torch.nn.DataParallel(net)} if wrap else net
    assert_same(read(saved(torch, whole, _use_new_zipfile_serialization=zip_form)), net.state_dict())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(torch: Any) -> None:
    net = network(torch).eval()
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(net), out)
    got = read(out.getvalue())
    assert {k: v.tobytes() for k, v in got.items()} == {k: v.detach().numpy().tobytes() for k, v in net.state_dict().items() if "num_" not in k}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_pickles_of_tensors_and_arrays(protocol: int, torch: Any) -> None:
    net = network(torch)
    if protocol >= 2:
        assert_same(read(pickle.dumps(net.state_dict(), protocol)), net.state_dict())
    arrays = {k: v.detach().numpy() for k, v in net.state_dict().items()}
    arrays["turned"] = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    arrays["big"] = np.arange(6, dtype=">f4")
    got = read(pickle.dumps(arrays, protocol))
    assert list(got) == [k for k in arrays if "num_batches" not in k]
    assert all(np.array_equal(got[k], arrays[k]) and got[k].dtype.isnative for k in got)


@pytest.mark.parametrize(
    "kind", ["float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool", "float8_e4m3fn", "float8_e5m2"]
)
@pytest.mark.parametrize("zip_form", [True, False])
def test_types(kind: str, zip_form: bool, torch: Any) -> None:
    dtype = getattr(torch, kind)
    numbers = torch.arange(-100, 100).float() / 7
    tensors = {"a.weight": (numbers > 0 if kind == "bool" else numbers.to(dtype)), "b.weight": torch.ones(3)}
    assert_same(read(saved(torch, tensors, _use_new_zipfile_serialization=zip_form)), tensors)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bfloat16", "float16"])
def test_every_number_of_small_types(kind: str, torch: Any) -> None:
    from fastsr.importers.tensor_types import SIZES, finished, raw_type

    raw = np.arange(256, dtype=np.uint8) if SIZES[kind] == 1 else np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(raw.copy()).view(getattr(torch, kind)).float().numpy()
    np.testing.assert_array_equal(finished(np.frombuffer(raw.tobytes(), raw_type(kind)), kind), expected)


@pytest.mark.parametrize("zip_form", [True, False])
def test_views_of_storages(zip_form: bool, torch: Any) -> None:
    base = torch.arange(120.0).reshape(2, 3, 4, 5)
    tensors = {
        "whole": base,
        "again": base,
        "turned": base.permute(3, 1, 0, 2),
        "part": base[1, 1:, ::2, 2:4],
        "every second": base[..., ::2],
        "one number": base[1, 2, 3, 4],
        "spread": torch.ones(1, 3, 1).expand(4, 3, 2),
        "channels last": base.contiguous(memory_format=torch.channels_last),
        "no numbers": torch.zeros(0, 3),
        "none at the end": base[2:],
        "parameter": torch.nn.Parameter(base[0]),
    }
    assert_same(read(saved(torch, tensors, _use_new_zipfile_serialization=zip_form)), tensors)


def test_big_endian(torch: Any) -> None:
    expected = {"a.weight": torch.arange(7.0), "a.count": torch.arange(5, dtype=torch.int64), "half": torch.arange(4).half()}
    storages = Storages()
    root = storages.tree({k: v.numpy() for k, v in expected.items()})
    storages.data = {k: v.byteswap() for k, v in storages.data.items()}
    members = {"data.pkl": dumps(root), "byteorder": b"big", **{f"data/{k}": v.tobytes() for k, v in storages.data.items()}}
    assert_same(read(zipped(members)), expected)


def test_checksums_left_out(torch: Any) -> None:
    net = network(torch)
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    torch.serialization.set_crc32_options(False)
    try:
        data = saved(torch, net.state_dict())
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(read(data), net.state_dict())


def test_files_made_without_torch_are_what_torch_reads(torch: Any) -> None:
    """The writer of the tests below writes torch's forms."""
    storages = Storages()
    root = {"params": storages.tree({"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}), "n": 3}
    for data in (zip_file(root, storages), zip_file(root, storages, deflate=True), legacy_file(root, storages)):
        expected = torch.load(io.BytesIO(data), weights_only=False)["params"]
        assert_same(read(data), expected)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", [zip_file, legacy_file])
def test_every_protocol_and_python_2(protocol: int, form: Any) -> None:
    storages = Storages()
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensor = storages.tensor(array)
    tensor.made_by = Global("torch._utils", "_rebuild_tensor")
    tensor.args = tensor.args[:4]
    pairs = [["a.weight", Call(Global("torch.nn.parameter", "Parameter"), (tensor, True))], ["b", storages.tensor(array[0])]]
    root = {"state_dict": Call(Global("collections", "OrderedDict"), (pairs,)), "epoch": 1 << 40, "loss": -0.5, "text": "\u0442\u044c", "none": None}
    got = read(form(root, storages, protocol))
    assert list(got) == ["a.weight", "b"] and np.array_equal(got["a.weight"], array)
    assert not [m for m in sys.modules if m.startswith("torch._utils_made_up")]


# ---- what is refused ---------------------------------------------------------------------------------------------------------------------------


def test_truncated_and_changed_files() -> None:
    storages = Storages()
    root = storages.tree({"a.weight": np.arange(64, dtype=np.float32)})
    for data in (zip_file(root, storages), zip_file(root, storages, deflate=True), legacy_file(root, storages)):
        assert len(read(data)) == 1
        for n in range(0, len(data), 3):
            with pytest.raises(ModelError, match=r"not whole|not finished|damaged|empty|not a file"):
                read(data[:n])
    data = bytearray(zip_file(root, storages))
    data[data.index(np.float32(5).tobytes())] ^= 1
    with pytest.raises(ModelError, match="checksum"):
        read(bytes(data))


def test_encrypted_archive() -> None:
    storages = Storages()
    data = bytearray(zip_file(storages.tree({"a.weight": np.ones(4, np.float32)}), storages))
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 1
    with pytest.raises(ModelError, match="encrypted"):
        read(bytes(data))


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(zipped({"inside/model.onnx": b"x"}))
    with pytest.raises(ModelError, match="unpack it and give"):
        load_graph(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as z:
        z.writestr("a/data.pkl", b"x" * 100)
    with pytest.raises(ModelError, match="method 12"):
        load_graph(path)
    path.write_bytes(b"storages".ljust(257, b"\0") + b"ustar\x0000" + bytes(600))
    with pytest.raises(ModelError, match="first format"):
        load_graph(path)
    for suffix in (".pth", ".bin", ".ckpt"):
        (tmp_path / f"x{suffix}").write_bytes(b"\x01\x02\x03 nothing known" * 40)
        with pytest.raises(ModelError, match="not a file of torch"):
            load_graph(tmp_path / f"x{suffix}")


def damaged_tensors() -> dict[str, tuple[Any, str]]:
    def one(storage: Any = None, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1)) -> Any:
        storages = Storages()
        held = storages.add(np.arange(6, dtype=np.float32))
        return {"a": storages.view(held if storage is None else storage, offset, shape, strides)}, storages

    def pid(*key: Any) -> Pid:
        return Pid(key or ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6))

    return {
        "beyond": (one(shape=(3, 3)), "beyond"),
        "offset": (one(offset=1), "beyond"),
        "stride": (one(strides=(4, 1)), "beyond"),
        "negative stride": (one(strides=(-3, 1)), "damaged"),
        "negative offset": (one(offset=-1), "damaged"),
        "negative size": (one(shape=(-2, 3)), "shape"),
        "float size": (one(shape=(2.0, 3)), "shape"),
        "text size": (one(shape=("2", 3)), "shape"),
        "huge size": (one(shape=(1 << 62, 1 << 62), strides=(0, 0)), "shape"),
        "ten gigabytes of nothing": (one(shape=(50000, 50000), strides=(0, 0)), "more memory"),
        "strides of other length": (one(strides=(1,)), "damaged"),
        "no storage": (one(storage=3), "damaged"),
        "list as storage": (one(storage=[1.0]), "damaged"),
        "unknown id": (one(storage=pid("picture", 1)), "unknown outside"),
        "unknown type": (one(storage=pid("storage", Global("torch", "OddStorage"), "0", "cpu", 6)), "OddStorage"),
        "complex": (
            one(storage=pid("storage", Global("torch", "ComplexFloatStorage"), "0", "cpu", 3), shape=(3,), strides=(1,)),
            "complex64|not finished",
        ),
        "quantised storage": (one(storage=pid("storage", Global("torch", "QInt8Storage"), "0", "cpu", 6)), "qint8"),
        "too few numbers": (one(storage=pid("storage", Global("torch", "FloatStorage"), "0", "cpu", 5)), "beyond"),
        "negative count": (one(storage=pid("storage", Global("torch", "FloatStorage"), "0", "cpu", -1)), "damaged"),
        "absent storage": (one(storage=pid("storage", Global("torch", "FloatStorage"), "../../etc/passwd", "cpu", 6)), "lacks|list of storages"),
    }


@pytest.mark.parametrize("name", damaged_tensors())
@pytest.mark.parametrize("form", [zip_file, legacy_file])
def test_damaged_tensors(name: str, form: Any) -> None:
    (root, storages), words = damaged_tensors()[name]
    with pytest.raises(ModelError, match=words):
        read(form(root, storages))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_and_sparse_tensors_are_named(torch: Any) -> None:
    if "qnnpack" not in torch.backends.quantized.supported_engines and "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no quantised tensors")
    with pytest.raises(ModelError, match="quantised tensor"):
        read(saved(torch, {"w": torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8)}))
    with pytest.raises(ModelError, match="sparse tensor"):
        read(saved(torch, {"w": torch.eye(3).to_sparse()}))


def test_not_a_number(tmp_path: Path) -> None:
    storages = Storages()
    (tmp_path / "model.pth").write_bytes(zip_file(storages.tree({"a.weight": np.array([1, np.nan], np.float32)}), storages))
    with pytest.raises(ModelError, match=r"'a\.weight' is empty, or has infinite or undefined"):
        load_graph(tmp_path / "model.pth")


def test_torch_is_not_imported(shared: Path) -> None:
    path = shared / "models" / "torch" / "VDSR_whole_module_py2.pth"
    code = f"""
import sys
from fastsr.importers import pytorch
assert len(pytorch.tensors_of(open({str(path)!r}, 'rb'))) == 20
assert not [m for m in sys.modules if m.split('.')[0] in ('torch', 'pickle5', 'vdsr')], sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
