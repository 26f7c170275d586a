"""Plain chains, every module of which reads the one before it: SRCNN, VDSR, DnCNN, ESPCN, FSRCNN, autoencoders, and what is like them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .parts import Spelling, in_order
from .weights import Module, Weights

NAME = "chain"
PAPER = (
    "Dong et al., SRCNN, TPAMI 2016; Kim et al., VDSR, CVPR 2016; Shi et al., ESPCN, CVPR 2016; Dong et al., FSRCNN, ECCV 2016; Zhang et al., DnCNN, "
    "TIP 2017; Mao et al., RED-Net, NIPS 2016"
)
FED = "Y or RGB 0..1; networks that do not enlarge get the picture enlarged by the bicubic filter, DnCNN and other denoisers do not"

MAX_LAYERS = 200
MAX_POOLS = 3
MAX_PLACES = 6
"""Convolutions from the end before which an enlargement without weights is tried."""
SCALES = (2, 3, 4)
ENLARGES = re.compile(r"(?i)srcnn|vdsr|upscal|super.?res")
CLEANS = re.compile(r"(?i)denois|dncnn|ircnn|ffdnet")
"""What names of files tell about networks that keep the size."""
DEEP = 6
"""Convolutions from which on a network that does not enlarge is taken to compute what is missing rather than the picture itself."""

TRANSPOSED = ("deconv", "transpose", "convt", "upconv", "up_conv", "last_part")

SPELLINGS = (
    Spelling(("feature_extraction", "shrink", "map", "expand", "deconv")),
    Spelling(("features?_?(?:extraction)?", "map", "reconstruction")),
    Spelling(("first_part", "mid_part", "last_part")),
    Spelling(("head", "body", "tail")),
    Spelling(("encoder", "decoder")),
    Spelling(("input_?(?:conv|layer)?", "(?:residual|hidden|conv)_?layers?", "output_?(?:conv|layer)?")),
)
"""Parts in the order in which they run, where sorted names are in another: FSRCNN's, SRCNN's, VDSR's, autoencoders'."""


@dataclass(frozen=True)
class Layer:
    """kind: "conv", "deconv", "norm" or "prelu"."""

    name: str
    kind: str
    channels: int
    kernel: int = 0


@dataclass(frozen=True)
class Reading:
    """What the weights leave open. act: behind convolutions without slopes. skip: 1, the chain's result is added to the input; -1, taken from it.
    end: activation of the result. base: the input enlarged by that mode is added. geometry: of the last transposed convolution, "half" its kernel is
    cut off or its "centre" kept. levels: see `_Skips`. dilations: of all convolutions. pads: see `Net.conv`. pools: see `_Skips`. ups: before which
    convolutions the picture is enlarged, by up, in mode. rare: see `choose.best`."""

    name: str
    act: str = "relu"
    skip: int = 0
    end: str = ""
    base: str = ""
    scale: int = 1
    geometry: str = "half"
    task: str = "enlarge"
    levels: str = ""
    range: float = 1.0
    dilations: tuple[int, ...] = ()
    pads: str = "zeros"
    pools: int = 0
    ups: tuple[int, ...] = ()
    up: int = 2
    mode: str = "nearest"
    rare: bool = False


def layers(w: Weights) -> list[Layer] | None:
    """The modules as a chain, or None when they are none."""
    modules = w.modules
    if not 1 < len(modules) <= 3 * MAX_LAYERS:
        return None
    return _in_order(in_order(w, SPELLINGS)) or _in_order(modules) or _in_order(_sorted(modules)) or _in_order(_numbered(modules))


def _numbered(modules: list[Module]) -> list[Module]:
    """By the number in their names, those without one last, for classes that define all convolutions before the rest: conv1, conv2, bn1."""
    numbers = [re.findall(r"\d+", m.name) for m in modules]
    if not all(len(found) < 2 and len("".join(found)) < 4 for found in numbers):
        return []
    kinds = ("conv", "norm", "vector", "linear", "other")
    place = {m.name: (int(found[0]) if found else 1000, kinds.index(m.kind)) for m, found in zip(modules, numbers, strict=True)}
    return sorted(modules, key=lambda m: place[m.name])


def _sorted(modules: list[Module]) -> list[Module]:
    """The convolution that reads a picture first, the one that makes one last, for classes that define their inner layers before these."""
    convs = [m for m in modules if m.kind == "conv"]
    transposed = [m for m in convs if m.shape[1] in (1, 3) and m.bias == m.shape[1] < m.shape[0]]
    heads = [m for m in convs if m.shape[1] in (1, 3) and m.shape[0] > 3 and m not in transposed]
    tails = transposed or [m for m in convs if m.shape[0] in (1, 3) and m.shape[1] > 3]
    if len(heads) != 1 or len(tails) != 1:
        return []
    parts: list[list[Module]] = [[]]
    for m in modules:  # norms and slopes stay behind their convolution
        if m.kind == "conv":
            parts.append([])
        parts[-1].append(m)
    place = {heads[0].name: -1, tails[0].name: 1}
    parts.sort(key=lambda part: place.get(part[0].name, 0) if part else -2)
    return [m for part in parts for m in part]


def _in_order(modules: list[Module]) -> list[Layer] | None:
    found: list[Layer] = []
    if not modules or modules[0].kind != "conv" or modules[0].shape[1] not in (1, 3):
        return None
    c = modules[0].shape[1]
    for m in modules:
        if m.kind == "conv" and min(m.shape) > 0 and m.shape[2] == m.shape[3]:
            kind = _direction(m, c)
            if not kind:
                return None
            c = m.shape[0] if kind == "conv" else m.shape[1]
            found.append(Layer(m.name, kind, c, m.shape[2]))
        elif m.kind in ("norm", "vector") and m.shape in ((c,), (1,)):
            found.append(Layer(m.name, "norm" if m.kind == "norm" else "prelu", c))
        else:
            return None
    return found


def _direction(m: Module, c: int) -> str:
    """Which kind of convolution takes c channels; when both do, its bias decides, whose numbers are those of the result, or its name."""
    o, i = m.shape[:2]
    conv = i == c or (i < c and c % i == 0 and o % (c // i) == 0 and c // i == c)
    deconv = o == c and m.bias in (0, i)
    if conv and deconv and m.bias and o != i:
        return "deconv" if m.bias == i else "conv"
    if conv and deconv:
        named = any(t in m.name.lower() for t in TRANSPOSED)
        return "deconv" if m.bias in (0, i) and (named or m.shape[2] % 2 == 0) else "conv"
    return "conv" if conv else "deconv" if deconv else ""


def detect(w: Weights) -> bool:
    """Whether the modules in order fit each other, from 1 or 3 channels to as many or a square number of times as many."""
    found = layers(w)
    if not found or sum(x.kind in ("conv", "deconv") for x in found) < 2:
        return False
    return _block(found[-1].channels, _first(w, found)) > 0


def _first(w: Weights, found: list[Layer]) -> int:
    return int(w.shape(f"{found[0].name}.weight")[1])


def _block(channels: int, c: int) -> int:
    """By how much a pixel shuffle enlarges c channels' picture; 0 when there is none."""
    r = math.isqrt(channels // c) if channels % c == 0 else 0
    return r if r * r * c == channels else 0


def build(w: Weights) -> list[Graph]:
    """All readings of the chain."""
    found = layers(w)
    if not found:
        raise ModelError("the modules do not fit each other")
    graphs = []
    usual = list(readings(found, _first(w, found), w.scale_hint(), w.stem))
    bordered = [] if any(x.kind == "deconv" for x in found) else [(k, r) for k, r in enumerate(usual) if not r.pools and not r.ups]
    padded = [(k, replace(r, pads=pads)) for pads in ("edge", "reflect") for k, r in bordered]
    for number, reading in (*enumerate(usual), *padded):
        try:
            graphs.append(_network(w, found, reading))
        except ModelError:
            continue
        graphs[-1].meta |= {"placed": True} if reading.ups and not reading.rare else {}
        graphs[-1].meta |= {"reading": number, "told": bool(CLEANS.search(w.stem) or ENLARGES.search(w.stem))}
        graphs[-1].meta |= {"border": True} if reading.pads != "zeros" else {}
    return graphs


def readings(found: list[Layer], c: int, hint: int, stem: str = "") -> Iterator[Reading]:
    """What the chain may be, the usual first. hint: the scale that the file's name tells, or 0. stem: that name, which may tell the task too."""
    n = sum(x.kind == "conv" for x in found)
    block = _block(found[-1].channels, c)
    deconvs = [k for k, x in enumerate(found) if x.kind == "deconv"]
    inner = [x for x in found[:-1] if x.kind == "conv"]
    slopes = any(x.kind == "prelu" for x in found)
    if block > 1:
        acts = ["relu"] if slopes else ["tanh", "relu", "leaky0.2"]
        for act in acts:
            yield Reading("ESPCN", act, scale=block)
        for act in acts:
            yield Reading("ESPCN", act, scale=block, end="sigmoid")
            for base in ("nearest", "linear", "cubic"):
                yield Reading("plain network", act, scale=block, base=base)
        for act in acts:
            yield Reading("ESPCN", act, scale=block, range=255.0)
        for act in () if slopes else ("leaky0.01", "leaky0.1", "sigmoid", "gelu", "silu"):
            yield Reading("ESPCN", act, scale=block, rare=True)
    elif deconvs == [len(found) - 1] and (found[-1].kernel > 3 or inner):
        for scale in dict.fromkeys([s for s in (hint, 2, 3, 4, 8) if s > 1]):
            for geometry in ("half", "centre") if scale > 2 and found[-1].kernel % 2 else ("half",):
                yield Reading("FSRCNN", scale=scale, geometry=geometry)
    elif deconvs:
        scale = hint or 2
        if len(deconvs) == n >= 5:
            for levels in ("red", "outer"):
                yield Reading("RED-Net", task="denoise", levels=levels, skip=1, end="relu")
                yield Reading("RED-Net", scale=scale, levels=levels, skip=1, end="relu")
        if len(deconvs) < 4:
            for stride in dict.fromkeys((hint, 2, 4) if len(deconvs) == 1 else (2,)):
                for end in ("", "sigmoid") if stride else ():
                    yield Reading("plain network", scale=stride, levels="up", end=end)
        for levels in ("own", "mirror", "", *(("down",) if len(deconvs) < 5 else ())):
            for act in ("relu",):
                yield Reading("autoencoder", act, scale=scale, levels=levels)
                yield Reading("autoencoder", act, scale=1, task="denoise", levels=levels)
                yield Reading("autoencoder", act, scale=scale, levels=levels, skip=1)
        for levels in ("", *(("down",) if len(deconvs) < 5 else ())):
            for task, by in (("denoise", 1), ("enlarge", scale)):
                yield Reading("autoencoder", scale=by, task=task, levels=levels, end="sigmoid", rare=True)
        for levels in ("pool", "joined") if len(deconvs) < 5 else ():
            for end in ("", "sigmoid"):
                yield Reading("autoencoder", scale=scale, levels=levels, end=end, rare=True)
                yield Reading("autoencoder", task="denoise", levels=levels, end=end, rare=True)
    else:
        placed = None if CLEANS.search(stem) else _gap(found)
        if placed is not None:
            yield from _enlarging((placed,), hint, rare=False)
        yield from (r for r in _same_size(found, n, hint or 2, stem) if placed is None or r.task == "enlarge")
        yield from _enlarging((0, *range(n - 1, max(n - MAX_PLACES, 0), -1)), hint)


def _same_size(found: list[Layer], n: int, scale: int, stem: str) -> Iterator[Reading]:
    norms = any(x.kind == "norm" for x in found)
    plain, residual = Reading("SRCNN", scale=scale), Reading("VDSR", scale=scale, skip=1)
    denoise = Reading("DnCNN", task="denoise", skip=-1)
    if norms:
        usual = [denoise, residual, replace(denoise, skip=0, name="denoiser"), plain]
    else:
        usual = [residual, denoise, plain] if n >= DEEP else [plain, residual, denoise]
    if ENLARGES.search(stem):
        usual.sort(key=lambda r: r.task == "denoise")
    elif CLEANS.search(stem):
        usual.sort(key=lambda r: r.task != "denoise")
    yield from usual
    for reading in usual:
        yield replace(reading, range=255.0)
    yield replace(plain, name="denoiser", task="denoise")
    if n == 7 and not norms:
        yield replace(denoise, name="IRCNN", dilations=(1, 2, 3, 4, 3, 2, 1))
    for act in ("leaky0.2", "leaky0.1", "leaky0.01", "tanh", "sigmoid"):
        yield replace(usual[0], act=act, rare=True)
    for end in ("sigmoid", "tanh"):
        yield replace(plain, end=end, rare=True)
    for pools in range(1, min((n - 1) // 2, MAX_POOLS) + 1) if n > 2 else ():
        for end in ("", "sigmoid"):
            yield replace(plain, name="autoencoder", pools=pools, end=end, rare=True)
            yield replace(plain, name="autoencoder", pools=pools, task="denoise", end=end, rare=True)


def _gap(found: list[Layer]) -> int | None:
    """Before which convolution a numbered sequence (nn.Sequential) has one module without weights besides the activations; None unless just one."""
    names = [layer.name.rpartition(".") for layer in found]
    if len({prefix for prefix, _, _ in names}) > 1 or not all(last.isdecimal() and len(last) < 6 for _, _, last in names):
        return None
    numbers = [int(last) for _, _, last in names]
    gaps, convs = ([0] if numbers[0] == 1 else []), 1
    for k in range(1, len(found)):
        acts = int(found[k].kind == "conv" and found[k - 1].kind != "prelu")
        more = numbers[k] - numbers[k - 1] - 1 - acts
        if more not in (0, 1) or (more and found[k].kind != "conv"):
            return None
        gaps += [convs] * more
        convs += found[k].kind == "conv"
    return gaps[0] if len(gaps) == 1 and numbers[0] < 2 else None


def _enlarging(places: tuple[int, ...], hint: int, rare: bool = True) -> Iterator[Reading]:
    """An enlargement that leaves no weights before one of these convolutions, or before two. rare: nothing tells that it is there."""
    for up in [hint] if hint > 1 else SCALES:
        for mode in ("nearest", "linear"):
            for k in places:
                yield Reading("plain network", ups=(k,), up=up, mode=mode, rare=rare or mode != "nearest")
    for k in places[1:-1] if hint in (0, 4) else ():
        yield Reading("plain network", ups=(k - 1, k), rare=True)


def _network(w: Weights, found: list[Layer], reading: Reading) -> Graph:
    c = _first(w, found)
    net = Net(w, c)
    enlarges = reading.name in ("ESPCN", "FSRCNN", "plain network")
    x = _run(net, found, reading)
    if _block(net.channels[x], c) > 1:
        x = net.shuffle(x, _block(net.channels[x], c))
    if reading.skip > 0:
        x = net.add(net.input, x)
    elif reading.skip < 0:
        x = net.sub(net.input, x)
    if reading.base:
        x = net.add(x, net.resize(net.input, reading.scale, reading.base))
    x = net.act(x, reading.end)
    denoises = reading.task == "denoise"
    pre = 1 if enlarges or denoises else reading.scale
    feed = Feed("y" if c == 1 else "rgb", reading.range, (), reading.range, (), pre)
    return net.done(x, feed, reading.name, task=reading.task, **({"rare": True} if reading.rare else {}))


def _run(net: Net, found: list[Layer], reading: Reading) -> str:
    """The chain itself, without what follows the last convolution."""
    x = net.input
    last = max(k for k, layer in enumerate(found) if layer.kind in ("conv", "deconv"))
    skips = _Skips(net, found, reading)
    pooled, behind = bool(reading.pools) or reading.levels in ("pool", "joined"), (found[0], 0)
    for k, layer in enumerate(found):
        if layer.kind == "norm":
            x = net.norm(x, layer.name)
        elif layer.kind == "prelu":
            x = net.prelu(x, layer.name)
        elif layer.kind == "conv":
            x = skips.conv(net.resize(x, reading.up, reading.mode) if skips.convs in reading.ups else x, layer, k)
        else:
            x = skips.deconv(x, layer, reading, k == last)
        later = found[k + 1].kind if k + 1 < len(found) else ""
        if k < last and layer.kind != "prelu" and later not in ("norm", "prelu"):
            x = net.act(x, reading.act)
        behind = (layer, k) if layer.kind in ("conv", "deconv") else behind
        if not pooled and behind == (layer, k):
            x = skips.after(x, layer, k)
        elif pooled and later not in ("norm", "prelu"):
            x = skips.after(x, *behind)
    return x


class _Skips:
    """Skips of encoders and decoders. levels "own": what a deconvolution makes is added to what it read; "mirror": to what the encoder made one level
    above; "down": a level is half as large, by the stride of convolutions; "up": transposed convolutions enlarge, no skips; "red": the first
    convolution makes the picture half as large, the last one twice, and every second one between is skipped to, or, "outer", none; "pool": maxima of
    2x2 pixels stand behind the first convolutions, "joined": and what these read is added behind the transposed ones. Reading.pools: the same in a
    network without transposed convolutions, where nearest pixels stand behind as many convolutions before the last."""

    def __init__(self, net: Net, found: list[Layer], reading: Reading) -> None:
        self.net, self.levels, self.reading = net, reading.levels, reading
        self.depth = sum(layer.kind == "deconv" for layer in found)
        convs = [k for k, layer in enumerate(found) if layer.kind == "conv"]
        first = next((k for k, layer in enumerate(found) if layer.kind == "deconv"), 0)
        encoder = [k for k in convs if k < first]
        self.encoder = encoder[-self.depth :] if self.depth else []
        self.pooled = encoder[: self.depth] if self.levels in ("pool", "joined") else convs[: reading.pools]
        self.doubled = convs[len(convs) - 1 - reading.pools : -1] if reading.pools else []
        if self.levels in ("pool", "joined") and len(self.pooled) < self.depth:
            raise ModelError("there are fewer convolutions than pools")
        self.made: list[str] = []
        self.convs = self.deconvs = 0

    def conv(self, x: str, layer: Layer, k: int) -> str:
        halves = k in self.encoder if self.levels == "down" else k == 0 and self.levels in ("red", "outer")
        if halves:
            return self.net.conv(x, layer.name, 2, pad=layer.kernel // 2)
        self.convs += 1
        dilations = self.reading.dilations
        return self.net.conv(x, layer.name, dilation=dilations[self.convs - 1] if dilations else 1, mode=self.reading.pads)

    def deconv(self, x: str, layer: Layer, reading: Reading, is_last: bool) -> str:
        if reading.name == "FSRCNN" and is_last:
            if reading.geometry == "half" and layer.kernel % 2:
                return self.net.conv_transpose(x, layer.name, reading.scale, layer.kernel // 2, reading.scale - 1)
            return self.net.conv_transpose(x, layer.name, reading.scale)
        if self.levels == "up":
            return self.net.conv_transpose(x, layer.name, reading.scale)
        doubles = self.levels in ("down", "pool", "joined") or (is_last and self.levels in ("red", "outer"))
        return self.net.conv_transpose(x, layer.name, 2 if doubles else 1)

    def after(self, x: str, layer: Layer, k: int) -> str:
        if layer.kind == "conv":
            if k in self.pooled:
                self.made.append(x)
                x = self.net.max_pool(x, 2, 2)
            elif k in self.encoder and self.levels != "joined":
                self.made.append(x)
            return self.net.resize(x, 2) if k in self.doubled else x
        self.deconvs += 1
        if self.levels == "red":
            kept = self.made[1::2][: (self.depth + 1) // 2 - 1]
            place = (self.deconvs + self.depth % 2) // 2 - 1 if (self.deconvs + self.depth) % 2 == 0 else -1
            return self.net.act(self.net.add(x, kept[-1 - place]), "relu") if 0 <= place < len(kept) else x
        if self.levels == "joined" and self.made:
            return self.net.add(x, self.made.pop())
        if self.levels == "own" and self.made:
            return self.net.add(x, self.made.pop())
        if self.levels == "mirror" and len(self.made) > 1:
            self.made.pop()
            return self.net.add(x, self.made[-1])
        return x


