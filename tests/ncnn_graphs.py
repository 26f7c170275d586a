"""Small ncnn models written by hand, in the text and the binary form, and ncnn itself to run them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.importers.ncnn_param import END, FIRST_ARRAY, FIRST_TEXT, MAGIC, TYPES

MARKS = {"f32": 0, "f16": 0x01306B47, "bf16": 0x01348B83, "int8": 0x000D4B38, "raw": 0x0002C056, "table": 0x01010101}


def marked(array: Any, kind: str = "f32") -> bytes:
    """Numbers with the mark in front that says how they are stored."""
    a = np.asarray(array).reshape(-1)
    head = struct.pack("<I", MARKS[kind])
    if kind == "table":
        values, index = np.unique(a.astype(np.float32), return_inverse=True)
        data = np.resize(values, 256).tobytes() + index.astype(np.uint8).tobytes()
    elif kind == "bf16":
        data = (a.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    else:
        data = a.astype({"f16": np.float16, "int8": np.int8}.get(kind, np.float32)).tobytes()
    return head + data + bytes(-len(data) % 4)


def plain(array: Any) -> bytes:
    """Numbers without a mark."""
    return np.asarray(array, np.float32).reshape(-1).tobytes()


class Net:
    """Layers in order; the last one makes the output. A value may be read several times: Split layers are added when the model is written."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: list[tuple[str, list[str], list[str], dict[int, Any]]] = []
        self.weights: list[bytes] = []

    def random(self, *shape: int) -> np.ndarray:
        """Numbers that a float16 and a bfloat16 hold exactly."""
        return (self.rng.integers(-60, 61, shape) / 64).astype(np.float32)

    def layer(self, op: str, *inputs: str, p: dict[int, Any] | None = None, w: tuple[bytes, ...] = (), n: int = 1) -> Any:
        """Append a layer with these parameters and weights; returns its output, or the list of its n outputs."""
        k = len(self.layers)
        outputs = [f"b{k}" if i == 0 else f"b{k}_{i}" for i in range(n)]
        self.layers.append((op, list(inputs), outputs, dict(p or {})))
        self.weights += w
        return outputs[0] if n == 1 else outputs

    def input(self, channels: int = 0) -> str:
        """The input, whose size is free."""
        self.layers.append(("Input", [], ["data"], {2: channels} if channels else {}))
        return "data"

    def conv(self, x: str, cin: int, cout: int, k: int = 3, kind: str = "f32", bias: bool = True, more: dict[int, Any] | None = None) -> str:
        """A convolution that keeps the size."""
        p = {0: cout, 1: k, 4: k // 2, 5: int(bias), 6: cout * cin * k * k, **(more or {})}
        w = (marked(self.random(cout, cin, k, k), kind), *((plain(self.random(cout)),) if bias else ()))
        out: str = self.layer("Convolution", x, p=p, w=w)
        return out

    def memory(self, array: Any) -> str:
        """A constant, (c, h, w), (h, w) or (w)."""
        a = np.asarray(array, np.float32)
        p = dict(zip((0, 1, 2), a.shape[::-1], strict=False))
        out: str = self.layer("MemoryData", p=p, w=(plain(a),))
        return out

    @property
    def output(self) -> str:
        return self.layers[-1][2][0]

    def split(self) -> list[tuple[str, list[str], list[str], dict[int, Any]]]:
        """The layers, and Split ones behind values that several read."""
        uses: dict[str, int] = {}
        for _, inputs, _, _ in self.layers:
            for i in inputs:
                uses[i] = uses.get(i, 0) + 1
        parts: dict[str, list[str]] = {}
        out: list[tuple[str, list[str], list[str], dict[int, Any]]] = []
        for op, inputs, outputs, p in self.layers:
            out.append((op, [parts[i].pop() if i in parts else i for i in inputs], outputs, p))
            for o in outputs:
                if uses.get(o, 0) > 1:
                    parts[o] = [f"{o}_s{k}" for k in range(uses[o])]
                    out.append(("Split", [o], list(parts[o]), {}))
        return out

    def text(self) -> str:
        """The .param file."""
        layers = self.split()
        lines = [str(MAGIC), f"{len(layers)} {sum(len(o) for _, _, o, _ in layers)}"]
        for k, (op, inputs, outputs, p) in enumerate(layers):
            lines.append(" ".join([f"{op:16}", f"{op.lower()}_{k}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, *map(_pair, p.items())]))
        return "\n".join(lines) + "\n"

    def binary(self) -> tuple[bytes, int, int]:
        """The .param.bin file, and the numbers of its input and output blob."""
        layers = self.split()
        number = {o: k for k, o in enumerate(o for _, _, outputs, _ in layers for o in outputs)}
        words = [struct.pack("<3i", MAGIC, len(layers), len(number))]
        for op, inputs, outputs, p in layers:
            words.append(struct.pack("<3i", TYPES.index(op), len(inputs), len(outputs)))
            words += [struct.pack("<i", number[b]) for b in (*inputs, *outputs)]
            for key, value in p.items():
                if isinstance(value, str):
                    data = value.encode()
                    words.append(struct.pack("<2i", FIRST_TEXT - key, len(data)) + data + bytes(-len(data) % 4))
                elif isinstance(value, list):
                    words.append(struct.pack("<2i", FIRST_ARRAY - key, len(value)) + b"".join(_word(v) for v in value))
                else:
                    words.append(struct.pack("<i", key) + _word(value))
            words.append(struct.pack("<i", END))
        return b"".join(words), number["data"], number[self.output]

    def data(self) -> bytes:
        """The .bin file."""
        return b"".join(self.weights)

    def save(self, path: Path) -> Path:
        """Write both files; `path` is that of the text form."""
        path.write_text(self.text())
        path.with_suffix(".bin").write_bytes(self.data())
        return path


def _pair(item: tuple[int, Any]) -> str:
    key, value = item
    if isinstance(value, list):
        return f"{FIRST_ARRAY - key}={','.join([str(len(value)), *map(_number, value)])}"
    return f'{key}="{value}"' if isinstance(value, str) else f"{key}={_number(value)}"


def _number(value: Any) -> str:
    return f"{value:e}" if isinstance(value, float) else str(int(value))


def _word(value: Any) -> bytes:
    return struct.pack("<f" if isinstance(value, float) else "<i", value)


def run_ncnn(param: Path, weights: Path, x: np.ndarray, output: str | int, source: str | int = "data") -> np.ndarray:
    """What ncnn makes of one picture (1, C, H, W), in 32-bit floats; weights of 8-bit integers in integers."""
    import ncnn

    net = ncnn.Net()
    for name in ("use_fp16_storage", "use_fp16_arithmetic", "use_fp16_packed", "use_bf16_storage", "use_vulkan_compute"):
        setattr(net.opt, name, False)
    net.opt.num_threads = 1
    load = net.load_param if isinstance(output, str) else net.load_param_bin
    assert load(str(param)) == 0
    assert net.load_model(str(weights)) == 0
    run = net.create_extractor()
    array = np.ascontiguousarray(x[0])
    run.input(source, ncnn.Mat(array).clone())  # a Mat borrows the array's memory, and layers may work in place
    code, out = run.extract(output)
    assert code == 0
    result = np.array(out)
    return (result[:, None, None] if result.ndim == 1 else result)[None]
