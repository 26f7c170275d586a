"""Other people's ways to write the same networks: names, activations, normalisation, enlarging, padding, against the networks in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks that weights are compared with are PyTorch's")
from test_archs import interpolates, passes_on  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch_networks import Apply, conv, seq  # noqa: E402

from fastsr import archs, ops  # noqa: E402
from fastsr.archs import choose, resnet  # noqa: E402
from fastsr.archs.weights import Weights  # noqa: E402

MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
W = 12


class Normalised(nn.Module):
    """A network between ImageNet's normalisation and its inverse."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner((x - MEAN) / DEVIATION) * DEVIATION + MEAN


def block(norm: Callable[[int], nn.Module] | None, act: nn.Module, factor: float = 1.0) -> nn.Module:
    inner: dict[str, nn.Module] = {"conv1": conv(W, W), "act": act, "conv2": conv(W, W)}
    if norm:
        inner |= {"bn1": norm(W), "bn2": norm(W)}
        return Apply(lambda s, x: x + s.bn2(s.conv2(s.act(s.bn1(s.conv1(x))))), **inner)
    return Apply(lambda s, x: x + factor * s.conv2(s.act(s.conv1(x))), **inner)


def resnet_of(ups: nn.Module, act: Callable[[], nn.Module], norm: Any = None, end: Any = None, factor: float = 1.0, skip: bool = True,
              base: str = "") -> nn.Module:  # fmt: skip
    """head, body, mid, up, tail, which are not in the alphabet's order."""

    def forward(s: Any, x: Any) -> Any:
        first = s.head(x)
        y = s.tail(s.up(s.mid(s.body(first)) + (first if skip else 0)))
        y = y + F.interpolate(x, scale_factor=y.shape[2] // x.shape[2], mode=base, align_corners=False) if base else y
        return end(y) if end else y

    mid = nn.Sequential(conv(W, W), norm(W)) if norm else conv(W, W)
    head = nn.Sequential(conv(3, W), act()) if norm else conv(3, W)
    return Apply(forward, head=head, body=nn.Sequential(*[block(norm, act(), factor) for _ in range(3)]), mid=mid, up=ups, tail=conv(W, 3))


def nearest(n: int, act: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(*[m for _ in range(n) for m in (nn.Upsample(scale_factor=2), conv(W, W), act())])


def shuffled(n: int, *more: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(*[m for _ in range(n) for m in (conv(W, 4 * W), nn.PixelShuffle(2), *(a() for a in more))])


def sequence(ups: list[nn.Module]) -> nn.Module:
    """The numbered sequence of KAIR, whose head has no activation."""
    inner = [Apply(lambda s, x: x + s.res(x), res=nn.Sequential(conv(W, W), nn.ReLU(), conv(W, W))) for _ in range(3)]
    sub = Apply(lambda s, x: x + s.sub(x), sub=nn.Sequential(*inner, conv(W, W)))
    return Apply(lambda s, x: s.model(x), model=nn.Sequential(conv(3, W), sub, *ups, conv(W, W), nn.ReLU(), conv(W, 3)))


def swish() -> nn.Module:
    """SRGAN of aitorzip, whose normalisations stand beside its convolutions."""
    names = {f"residual_block{k + 1}": block(nn.BatchNorm2d, nn.SiLU()) for k in range(3)}
    up = {f"upsample{k + 1}": Apply(lambda s, x: F.silu(F.pixel_shuffle(s.conv(x), 2)), conv=conv(W, 4 * W)) for k in range(2)}

    def forward(s: Any, x: Any) -> Any:
        first = y = F.silu(s.conv1(x))
        for k in range(3):
            y = getattr(s, f"residual_block{k + 1}")(y)
        return s.conv3(s.upsample2(s.upsample1(s.bn2(s.conv2(y)) + first)))

    return Apply(forward, conv1=conv(3, W, 9), **names, conv2=conv(W, W), bn2=nn.BatchNorm2d(W), **up, conv3=conv(W, 3, 9))


def lindernoren() -> nn.Module:
    """PyTorch-GAN's SRGAN: 0.8 is the epsilon of its normalisations, those before pixel shuffles excepted."""

    def eps(n: int) -> nn.Module:
        return nn.BatchNorm2d(n, 0.8)

    ups = nn.Sequential(*[m for _ in range(2) for m in (conv(W, 4 * W), nn.BatchNorm2d(4 * W), nn.PixelShuffle(2), nn.PReLU())])
    blocks = [Apply(lambda s, x: x + s.conv_block(x), conv_block=nn.Sequential(conv(W, W), eps(W), nn.PReLU(), conv(W, W), eps(W))) for _ in range(2)]

    def forward(s: Any, x: Any) -> Any:
        first = s.conv1(x)
        return s.conv3(s.upsampling(first + s.conv2(s.res_blocks(first))))

    return Apply(forward, conv1=nn.Sequential(conv(3, W, 9), nn.PReLU()), res_blocks=nn.Sequential(*blocks),
                 conv2=nn.Sequential(conv(W, W), eps(W)), upsampling=ups, conv3=nn.Sequential(conv(W, 3, 9), nn.Tanh()))  # fmt: skip


def dense(names: str, slope: float, growth: int) -> nn.Module:
    def forward(s: Any, x: Any) -> Any:
        seen = x
        for k in range(4):
            seen = torch.cat([seen, F.leaky_relu(getattr(s, names.format(k + 1))(seen), slope)], 1)
        return x + 0.2 * getattr(s, names.format(5))(seen)

    def one(k: int) -> nn.Module:
        c = conv(W + k * growth, W if k == 4 else growth)
        return nn.Sequential(c)[0] if names[0] == "c" else nn.Sequential(c)

    return Apply(forward, **{names.format(k + 1): one(k) for k in range(5)})


def esrgan_lindernoren() -> nn.Module:
    def rrdb() -> nn.Module:
        return Apply(lambda s, x: x + 0.2 * s.dense_blocks(x), dense_blocks=nn.Sequential(*[dense("b{}", 0.01, W) for _ in range(3)]))

    def forward(s: Any, x: Any) -> Any:
        first = s.conv1(x)
        return s.conv3(s.upsampling(first + s.conv2(s.res_blocks(first))))

    ups = nn.Sequential(*[m for _ in range(2) for m in (conv(W, 4 * W), nn.LeakyReLU(), nn.PixelShuffle(2))])
    return Apply(forward, conv1=conv(3, W), res_blocks=nn.Sequential(rrdb(), rrdb()), conv2=conv(W, W), upsampling=ups,
                 conv3=nn.Sequential(conv(W, W), nn.LeakyReLU(), conv(W, 3)))  # fmt: skip


def esrgan(names: str, ups: int, by: int = 2, shuffle: bool = False) -> nn.Module:
    """names: "lornatang" or the original's."""

    def rrdb() -> nn.Module:
        name = "rdb{}" if names == "lornatang" else "RDB{}"
        blocks = {name.format(k): dense("conv{}", 0.2, 6) for k in (1, 2, 3)}
        return Apply(lambda s, x: x + 0.2 * getattr(s, name.format(3))(getattr(s, name.format(2))(getattr(s, name.format(1))(x))), **blocks)

    trunk = nn.Sequential(rrdb(), rrdb())
    up = [conv(W, 4 * W if shuffle else W) for _ in range(ups)]
    if names == "lornatang":
        parts = {"conv1": conv(3, W), "trunk": trunk, "conv2": conv(W, W), **{f"upsampling{k + 1}": nn.Sequential(u) for k, u in enumerate(up)},
                 "conv3": nn.Sequential(conv(W, W)), "conv4": conv(W, 3)}  # fmt: skip
    else:
        parts = {"conv_first": conv(3, W), "RRDB_trunk": trunk, "trunk_conv": conv(W, W), **{f"upconv{k + 1}": u for k, u in enumerate(up)},
                 "HRconv": conv(W, W), "conv_last": conv(W, 3)}  # fmt: skip

    def forward(s: Any, x: Any) -> Any:
        head, body, mid, *ups, hr, last = (getattr(s, n) for n in parts)
        first = y = head(x)
        y = first + mid(body(y))
        for u in ups:
            y = F.leaky_relu(F.pixel_shuffle(u(y), 2) if shuffle else u(F.interpolate(y, scale_factor=by)), 0.2)
        return last(F.leaky_relu(hr(y), 0.2))

    return Apply(forward, **parts)


def edsr_with_mean() -> nn.Module:
    """EDSR of Lornatang: its mean is a buffer."""

    def forward(s: Any, x: Any) -> Any:
        first = s.conv1((x - s.mean) * 255)
        return s.conv3(s.upsampling(s.conv2(s.trunk(first)) + first)) / 255 + s.mean

    blocks = [Apply(lambda s, x: x + 0.1 * s.rcb(x), rcb=nn.Sequential(conv(W, W), nn.ReLU(), conv(W, W))) for _ in range(3)]
    up = Apply(lambda s, x: s.upsample_block(x), upsample_block=shuffled(1))
    net = Apply(forward, conv1=conv(3, W), trunk=nn.Sequential(*blocks), conv2=conv(W, W), upsampling=nn.Sequential(up), conv3=conv(W, 3))
    net.register_buffer("mean", torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1))
    return net


def rednet(n: int) -> nn.Module:
    """RED-Net of yjn870 with n convolutions and as many transposed ones."""

    def forward(s: Any, x: Any) -> Any:
        y, seen = x, []
        for k, m in enumerate(s.conv_layers):
            y = m(y)
            if k % 2 == 1 and n > 5 and len(seen) < math.ceil(n / 2) - 1:
                seen.append(y)
        for k, m in enumerate(s.deconv_layers):
            y = m(y)
            if (k + 1 + n) % 2 == 0 and seen:
                y = F.relu(y + seen.pop())
        return F.relu(y + x)

    down = [nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), *[nn.Sequential(conv(8, 8), nn.ReLU()) for _ in range(n - 1)]]
    up: list[nn.Module] = [nn.Sequential(nn.ConvTranspose2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(n - 1)]
    return Apply(forward, conv_layers=nn.Sequential(*down), deconv_layers=nn.Sequential(*up, nn.ConvTranspose2d(8, 3, 3, 2, 1, 1)))


def chain_of(act: Callable[[Any], Any], end: Callable[[Any], Any] | None = None, shuffle: int = 0, c: int = 1, mode: str = "zeros") -> nn.Module:
    def one(i: int, o: int, k: int) -> nn.Module:
        return nn.Conv2d(i, o, k, padding=k // 2, padding_mode=mode)

    def forward(s: Any, x: Any) -> Any:
        y = s.conv3(act(s.conv2(act(s.conv1(x)))))
        y = F.pixel_shuffle(y, shuffle) if shuffle else y
        return end(y) if end else y

    return Apply(forward, conv1=one(c, 12, 5), conv2=one(12, 8, 3), conv3=one(8, c * max(shuffle, 1) ** 2, 3))


def ircnn() -> nn.Module:
    layers: list[nn.Module] = []
    for k, d in enumerate((1, 2, 3, 4, 3, 2, 1)):
        layers += [nn.Conv2d(8 if k else 1, 8 if k < 6 else 1, 3, padding=d, dilation=d), nn.ReLU()]
    return Apply(lambda s, x: x - s.model(x), model=nn.Sequential(*layers[:-1]))


def fsrcnn_by_name() -> nn.Module:
    parts = seq(feature_extraction=nn.Sequential(conv(1, 12, 5), nn.PReLU(12)), shrink=nn.Sequential(conv(12, 4, 1), nn.PReLU(4)),
                map=nn.Sequential(conv(4, 4), nn.PReLU(4)), expand=nn.Sequential(conv(4, 12, 1), nn.PReLU(12)),
                deconv=nn.ConvTranspose2d(12, 1, 9, 8, 4, 7))  # fmt: skip
    return parts


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "nearest x4, PReLU": lambda: resnet_of(nearest(2, nn.PReLU), nn.PReLU, nn.BatchNorm2d),
    "nearest x2, LeakyReLU": lambda: resnet_of(nearest(1, leaky), leaky, nn.BatchNorm2d, lambda y: (torch.tanh(y) + 1) / 2),
    "nearest x4, no norms": lambda: resnet_of(nearest(2, nn.ReLU), nn.ReLU),
    "transposed convolutions": lambda: resnet_of(nn.Sequential(nn.ConvTranspose2d(W, W, 4, 2, 1), nn.ReLU()), nn.ReLU),
    "x8, slopes behind shuffles": lambda: resnet_of(shuffled(3, nn.PReLU), nn.PReLU, nn.BatchNorm2d),
    "sigmoid": lambda: resnet_of(shuffled(1, nn.PReLU), nn.PReLU, nn.BatchNorm2d, torch.sigmoid),
    "instance norms": lambda: resnet_of(shuffled(1, leaky), leaky, lambda n: nn.InstanceNorm2d(n, affine=True)),
    "factor 0.1 in few blocks": lambda: resnet_of(shuffled(1), nn.ReLU, factor=0.1),
    "no long skip": lambda: resnet_of(shuffled(1), nn.ReLU, skip=False),
    "bicubic base": lambda: resnet_of(shuffled(1), nn.ReLU, base="bicubic"),
    "KAIR, nearest": lambda: sequence([m for _ in range(2) for m in (nn.Upsample(scale_factor=2), conv(W, W), nn.ReLU())]),
    "KAIR, shuffles": lambda: sequence(list(shuffled(2, nn.ReLU))),
    "swish": swish,
    "PyTorch-GAN's SRGAN": lambda: Normalised(lindernoren()),
    "PyTorch-GAN's ESRGAN": lambda: Normalised(esrgan_lindernoren()),
    "EDSR with its mean": edsr_with_mean,
    "ESRGAN of Lornatang": lambda: esrgan("lornatang", 2),
    "ESRGAN x3": lambda: esrgan("", 1, 3),
    "ESRGAN x8": lambda: esrgan("", 3),
    "ESRGAN with pixel shuffles": lambda: esrgan("", 2, shuffle=True),
    "RED-Net 10": lambda: rednet(5),
    "RED-Net 20": lambda: rednet(10),
    "RED-Net 30": lambda: rednet(15),
    "SRCNN, LeakyReLU": lambda: chain_of(lambda x: F.leaky_relu(x, 0.2)),
    "SRCNN, sigmoid": lambda: chain_of(F.relu, torch.sigmoid, c=3),
    "SRCNN, edges repeated": lambda: chain_of(F.relu, mode="replicate"),
    "ESPCN, reflected": lambda: chain_of(torch.tanh, shuffle=3, mode="reflect"),
    "ESPCN, GELU": lambda: chain_of(F.gelu, shuffle=2),
    "IRCNN": ircnn,
    "FSRCNN x8, names unsorted": fsrcnn_by_name,
    "transposed in the middle": lambda: nn.Sequential(conv(3, W), nn.ReLU(), nn.ConvTranspose2d(W, W, 4, 2, 1), nn.ReLU(), conv(W, 3)),
}


def made(name: str) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """A network with statistics and slopes that are not the initial ones, and its weights."""
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    with torch.no_grad():
        for key, t in net.state_dict().items():
            if key.endswith("running_var"):
                t.uniform_(0.5, 2)
            elif key.endswith("running_mean"):
                t.normal_(0, 0.2)
            elif t.ndim > 2 and t.shape[-1] > 1:
                t.mul_(1.5)
        for m in net.modules():
            if isinstance(m, nn.PReLU):
                m.weight.uniform_(-0.3, 0.5)
    return net, {k.removeprefix("inner."): v.numpy() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_one_reading_is_the_network(name: str) -> None:
    """With the tensors in the network's order, and sorted by name."""
    net, tensors = made(name)
    x = np.random.default_rng(1).random((1, next(iter(tensors.values())).shape[1] if "EDSR with" not in name else 3, 16, 20), np.float32)
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    for given in (tensors, dict(sorted(tensors.items()))):
        w = Weights(given)
        for arch in archs.ARCHS:
            if arch.detect(w):
                break
        found = arch.build(w)
        assert not w.left()
        errors = []
        for graph in found if isinstance(found, list) else [found]:
            feed = graph.feed
            given = (x * feed.range - np.reshape(feed.mean or (0,), (1, -1, 1, 1))).astype(np.float32)
            y = ops.run_graph(graph, {"picture": given})[graph.outputs[0]]
            y = (y + np.reshape(feed.out_mean or (0,), (1, -1, 1, 1))) / feed.out_range
            errors.append(float(np.abs(y - want).max() / np.abs(want).max()) if y.shape == want.shape else math.inf)
        assert min(errors) < 1e-4


@pytest.mark.parametrize("name", ["nearest x4, PReLU", "ESRGAN x3", "RED-Net 30", "SRCNN, LeakyReLU"])
def test_weights_that_make_no_picture_are_told(name: str) -> None:
    """Nothing of what is tried on them needs much memory either: not 15 doublings of a picture."""
    tensors = {k: np.full_like(v, 0.3) if v.ndim > 2 else v for k, v in made(name)[1].items()}
    with pytest.warns(RuntimeWarning, match="they were not trained, or the network is another one"):
        archs.graph_of(tensors, Path("net.pth"))


def test_a_recursion_that_no_reading_runs_is_told() -> None:
    """Layers that run several times make the picture better; once, with the skip, worse: the result still looks like a picture."""
    net = chain_of(F.relu).eval()
    passes_on(net.conv1, net.conv2)
    passes_on(net.conv3, by=0.4)
    with pytest.warns(RuntimeWarning, match="better picture"):
        archs.graph_of({k: v.numpy() for k, v in net.state_dict().items()}, Path("net_x2.pth"))


@pytest.mark.parametrize("well", [True, False])
def test_rare_readings_are_tried_where_others_gain_little(well: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net = torch.nn.Sequential(conv(1, 8, 5), nn.ReLU(), nn.ConvTranspose2d(8, 1, 9, 2, 4, 1)).eval()
    passes_on(net[0], by=1 if well else 0.3)
    interpolates(net[2].weight, 2)
    with torch.no_grad():
        net[2].bias.zero_()
    first, second = archs.chain.build(Weights({k: v.numpy() for k, v in net.state_dict().items()}))[:2]
    second.meta["rare"] = True
    tried: list[Any] = []
    monkeypatch.setattr(choose, "judge", lambda g: (tried.append(g), (1.0 if well else -1.0, 20.0, 20.0))[1])
    assert choose.best([first, second]) is first
    assert tried == ([first] if well else [first, second])


@pytest.mark.parametrize("valid", [True, False])
def test_the_border_tells_the_padding(valid: bool) -> None:
    """A filter that sharpens: without padding, or with zeros and a second filter that makes up for them at the border."""
    net = chain_of(F.relu).eval()
    passes_on(net.conv1, net.conv2)
    with torch.no_grad():
        net.conv3.weight.zero_()
        net.conv3.weight[0, 0] = torch.tensor([[-0.05, -0.1, -0.05], [-0.1, 1.6, -0.1], [-0.05, -0.1, -0.05]])
        net.conv3.bias.zero_()
        if not valid:
            net.conv3.weight[0, 0] = 0
            net.conv3.weight[0, 0, 1, 1] = 1
    graph = archs.graph_of({k: v.numpy() for k, v in net.state_dict().items()}, Path("net_x2.pth"))
    assert {n.attrs["mode"] for n in graph.nodes if n.op == "Pad"} == ({"edge"} if valid else set())


def test_norms_of_sorted_files_that_nothing_tells_are_refused() -> None:
    net = seq(a=conv(3, W), norm=nn.BatchNorm2d(W), z=nn.Sequential(*[block(None, nn.ReLU()) for _ in range(2)]), zz=conv(W, W), zzz=conv(W, 3))
    tensors = {k: v.numpy() for k, v in net.state_dict().items()}
    assert resnet.parts(Weights(tensors)) is None
