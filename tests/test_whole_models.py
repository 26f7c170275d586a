"""Published networks with attention over the whole picture: IMDN with its own weights, and RFDN's and RCAN's blocks, against PyTorch."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsr.backends import pick_backend
from fastsr.importers import onnx
from fastsr.lower import lower
from fastsr.passes import optimise
from fastsr.program import Program

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnx", reason="PyTorch's exporter needs the onnx package")
nn, functional = torch.nn, torch.nn.functional


def imported(model: Any, size: tuple[int, int], free: bool = True) -> Program:
    """The network as PyTorch's exporter writes it, read again; free: for pictures of any size."""
    f = io.BytesIO()
    axes = {"x": {2: "h", 3: "w"}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.rand(1, 3, *size),), f, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes)
    return lower(optimise(onnx.loads(f.getvalue())))


def agrees(model: Any, program: Program, size: tuple[int, int], tolerance: float = 1e-5) -> None:
    x = np.random.default_rng(size[0]).random((1, 3, *size), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    got = pick_backend().compile(program, threads=2).run([x], [0])[0]
    assert got.shape == expected.shape
    assert float(np.abs(got - expected).max()) <= tolerance * max(1.0, float(np.abs(expected).max()))


def conv(cin: int, cout: int, k: int = 3, **options: Any) -> Any:
    return nn.Conv2d(cin, cout, k, **{"padding": k // 2, **options})


class Contrast(nn.Module):
    """IMDN's channel attention, by its paper (Hui et al. 2019): standard deviation plus mean."""

    def __init__(self, c: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(conv(c, c // reduction, 1), nn.ReLU(), conv(c // reduction, c, 1), nn.Sigmoid())
        self.avg_pool = nn.AdaptiveAvgPool2d(1)

    def mean(self, x: Any) -> Any:
        return x.sum(3, keepdim=True).sum(2, keepdim=True) / (x.size(2) * x.size(3))

    def forward(self, x: Any) -> Any:
        deviation = self.mean((x - self.mean(x)).pow(2)).pow(0.5)
        return x * self.conv_du(deviation + self.avg_pool(x))


class Distillation(nn.Module):
    def __init__(self, c: int = 64) -> None:
        super().__init__()
        rest = c - c // 4
        self.c1, self.c2, self.c3, self.c4, self.c5 = conv(c, c), conv(rest, c), conv(rest, c), conv(rest, c // 4), conv(c, c, 1)
        self.cca = Contrast(c)
        self.parts = [c // 4, rest]

    def forward(self, x: Any) -> Any:
        kept, rest = [], x
        for layer in (self.c1, self.c2, self.c3):
            part, rest = torch.split(functional.leaky_relu(layer(rest), 0.05), self.parts, 1)
            kept.append(part)
        return self.c5(self.cca(torch.cat([*kept, self.c4(rest)], 1))) + x


class Imdn(nn.Module):
    def __init__(self, c: int = 64, scale: int = 2) -> None:
        super().__init__()
        self.fea_conv = conv(3, c)
        for k in range(1, 7):
            setattr(self, f"IMDB{k}", Distillation(c))
        self.c = nn.Sequential(conv(6 * c, c, 1), nn.LeakyReLU(0.05))
        self.LR_conv = conv(c, c)
        self.upsampler = nn.Sequential(conv(c, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        x = first = self.fea_conv(x)
        blocks = []
        for k in range(1, 7):
            x = getattr(self, f"IMDB{k}")(x)
            blocks.append(x)
        return self.upsampler(self.LR_conv(self.c(torch.cat(blocks, 1))) + first)


def test_imdn(shared: Path) -> None:
    path = shared / "models/torch/IMDN_x2.pth"
    if not path.exists():
        pytest.skip("no IMDN_x2.pth in the shared folder")
    model = Imdn()
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    model.eval()
    for free in (True, False):
        program = imported(model, (32, 24), free)
        assert sum(s.kind == "GlobalAveragePool" for s in program.steps) == 2 * 6
        for size in ((32, 24), (45, 31)):
            agrees(model, program, size)


class Spatial(nn.Module):
    """RFDN's spatial attention (Liu et al. 2020)."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        f = c // 4
        self.head, self.conv1, self.conv_f, self.conv4, self.tail = conv(3, c), conv(c, f, 1), conv(f, f, 1), conv(f, c, 1), conv(c, 12)
        self.conv_max, self.conv2, self.conv3, self.conv3_ = conv(f, f), conv(f, f, stride=2, padding=0), conv(f, f), conv(f, f)

    def forward(self, x: Any) -> Any:
        x = self.head(x)
        c1_ = self.conv1(x)
        largest = functional.max_pool2d(self.conv2(c1_), kernel_size=7, stride=3)
        c3 = self.conv3_(functional.relu(self.conv3(functional.relu(self.conv_max(largest)))))
        c3 = functional.interpolate(c3, (x.size(2), x.size(3)), mode="bilinear", align_corners=False)
        return functional.pixel_shuffle(self.tail(x * torch.sigmoid(self.conv4(c3 + self.conv_f(c1_)))), 2)


class Squeeze(nn.Module):
    """Squeeze and excitation with linear layers and expand_as."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        self.head = conv(3, c)
        self.fc = nn.Sequential(nn.Linear(c, 4, bias=False), nn.ReLU(), nn.Linear(4, c), nn.Sigmoid())

    def forward(self, x: Any) -> Any:
        x = self.head(x)
        n, c, _, _ = x.size()
        y = self.fc(functional.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1)
        return x * y.expand_as(x)


class Normalised(nn.Module):
    """Normalisation by the picture's own statistics."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, c), nn.InstanceNorm2d(c, affine=True), nn.ReLU(), conv(c, c, stride=2), nn.GroupNorm(4, c), nn.ReLU())
        self.last = nn.InstanceNorm2d(c)

    def forward(self, x: Any) -> Any:
        y = self.last(self.body(x))
        return functional.interpolate(y, size=x.shape[2:], mode="nearest")


class Pools(nn.Module):
    """Pools of odd sizes, enlarged to the picture's size by every filter."""

    def forward(self, x: Any) -> Any:
        a = functional.interpolate(functional.avg_pool2d(x, 3, 2, 1), size=x.shape[2:], mode="nearest")
        b = functional.interpolate(functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False), size=x.shape[2:], mode="bicubic")
        c = functional.interpolate(functional.max_pool2d(x, 2, 2, ceil_mode=True), size=x.shape[2:], mode="bilinear", align_corners=True)
        return a + b * c + torch.amax(x, (2, 3), keepdim=True) * x.mean(3, keepdim=True).mean(2, keepdim=True)


@pytest.mark.parametrize("free", [True, False], ids=["any size", "fixed size"])
@pytest.mark.parametrize("network", [Spatial, Squeeze, Normalised, Pools])
def test_blocks(network: Any, free: bool) -> None:
    torch.manual_seed(1)
    model = network().eval()
    program = imported(model, (33, 46), free)
    for size in ((33, 46), (31, 57), (64, 40)):
        agrees(model, program, size)
