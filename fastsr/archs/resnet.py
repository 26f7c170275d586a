"""Residual networks with equal blocks: EDSR, SRResNet and SRGAN's generator, MSRResNet, WDSR, and what is like them.

The parts are found by their shapes and by the numbers in their names, so names themselves do not matter: a head from 1 or 3 channels to F, numbered
blocks of convolutions from F to F, one F to F convolution behind them, enlarging ones from F to F r^2, a tail back to the picture's channels.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .weights import Module, Weights

NAME = "residual network"
PAPER = (
    "Lim et al., EDSR, CVPR Workshops 2017; Ledig et al., SRResNet and SRGAN, CVPR 2017; Wang et al., MSRResNet, ESRGAN's baseline, 2018; "
    "Yu et al., WDSR, 2018"
)
FED = "RGB: EDSR 0..255 less the mean of DIV2K, SRGAN 0..1 in and -1..1 out where it ends in tanh, others 0..1"

DIV2K = (0.4488, 0.4371, 0.4040)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MAX_BLOCKS = 400

NUMBER = r"\d+(?![^._])"
"""A number in a name that ends a part of it."""


@dataclass
class Parts:
    """The modules by their place in the network."""

    channels: int
    width: int
    head: Module
    tail: Module
    blocks: dict[str, list[Module]] = field(default_factory=dict)
    """By what the names of a block's modules begin with."""
    middle: list[Module] = field(default_factory=list)
    ups: list[Module] = field(default_factory=list)
    hr: Module | None = None
    skip: Module | None = None
    shifts: list[Module] = field(default_factory=list)
    beside: dict[str, list[Module]] = field(default_factory=dict)
    """Norms and slopes outside the blocks, by the name of the convolution that they belong to."""


@dataclass(frozen=True)
class Reading:
    """What the weights leave open. act: in blocks without slopes; outer: behind head and enlarging convolutions without slopes; factor: of a block's
    residual; end: activation of the result; signed_in, signed_out: pictures are -1..1 there; base: mode in which the input is enlarged and added."""

    name: str = "SRResNet"
    act: str = "relu"
    outer: str = ""
    factor: float = 1.0
    range: float = 1.0
    mean: tuple[float, ...] = ()
    end: str = ""
    signed_in: bool = False
    signed_out: bool = False
    base: str = ""
    imagenet: bool = False


def detect(w: Weights) -> bool:
    """Whether all parts are there."""
    return parts(w) is not None


def build(w: Weights) -> list[Graph]:
    """All readings."""
    found = parts(w)
    if found is None:
        raise ModelError("the parts do not fit each other")
    return [_network(w, found, reading) for reading in readings(w, found)]


# ---- the parts ---------------------------------------------------------------------------------------------------------------------------------


def parts(w: Weights) -> Parts | None:
    """The modules in their places, or None when one does not fit."""
    modules = w.modules
    convs = [m for m in modules if m.kind == "conv"]
    if any(m.kind in ("linear", "other") for m in modules) or len(convs) < 4:
        return None
    shifts = [m for m in convs if m.shape[2:] == (1, 1) and m.shape[0] == m.shape[1] == 3 and m.bias]
    shifts.sort(key=lambda m: float(np.sum(w.tensors[f"{m.name}.bias"])))  # the mean is taken away first
    convs = [m for m in convs if m not in shifts]
    heads = [m for m in convs if m.shape[1] in (1, 3) and m.shape[0] > 3]
    skips = [m for m in heads if len(heads) > 1 and m.shape[0] % m.shape[1] == 0 and _root(m.shape[0] // m.shape[1]) and "skip" in m.name.lower()]
    heads = [m for m in heads if m not in skips]
    if len(heads) != 1 or len(skips) > 1:
        return None
    head = heads[0]
    c, f = head.shape[1], head.shape[0]
    rest = [m for m in convs if m is not head and m not in skips]
    blocks = _blocks(rest, f)
    in_order = not blocks
    if in_order:
        blocks = _pairs(rest, f)
    if not blocks or len(blocks) > MAX_BLOCKS:
        return None
    inside = {m.name for b in blocks.values() for m in b}
    rest = [m for m in rest if m.name not in inside]
    tails = [m for m in rest if m.shape[1] == f and (m.shape[0] == c or (m.shape[0] % c == 0 and _root(m.shape[0] // c) and m.shape[0] // c < 65))]
    tails = [m for m in tails if m.shape[0] == c] or [m for m in tails if m.shape[0] != f and not _up(m, f)] or tails[-1:]
    if len(tails) != 1:
        return None
    found = Parts(c, f, head, tails[0], blocks, shifts=shifts, skip=skips[0] if skips else None)
    for m in rest:
        if m is found.tail:
            continue
        if m.shape[:2] == (f, f):
            found.middle.append(m)
        elif _up(m, f):
            found.ups.append(m)
        else:
            return None
    found.hr = next((m for m in found.middle if "hr" in m.name.lower()), found.middle[-1] if len(found.middle) > 1 else None)
    if found.hr is not None:
        found.middle.remove(found.hr)
    if len(found.middle) > 1 or len(shifts) not in (0, 2):
        return None
    return found if _attach(found, modules, in_order) else None


def _root(n: int) -> int:
    r = math.isqrt(max(n, 0))
    return r if r * r == n else 0


def _up(m: Module, f: int) -> bool:
    return m.shape[1] == f and m.shape[0] % f == 0 and _root(m.shape[0] // f) > 1


def _blocks(convs: list[Module], f: int) -> dict[str, list[Module]]:
    """The convolutions of every block, by the number in their names that splits most of them into equal chains from f channels to f."""
    best: dict[str, list[Module]] = {}
    for prefix in {m.name[: n.start()] for m in convs for n in re.finditer(NUMBER, m.name)}:
        groups: dict[int, list[Module]] = {}
        for m in convs:
            number = re.match(NUMBER, m.name[len(prefix) :]) if m.name.startswith(prefix) else None
            if number:
                groups.setdefault(int(number.group()), []).append(m)
        chains = {k: g for k, g in groups.items() if len(g) > 1 and _chain(g, f)}
        kinds = Counter(tuple(m.shape for m in g) for g in chains.values())
        if not kinds:
            continue
        usual = kinds.most_common(1)[0][0]
        chosen = {f"{prefix}{k}": chains[k] for k in sorted(chains) if tuple(m.shape for m in chains[k]) == usual}
        if len(chosen) > 1 and (sum(map(len, chosen.values())), len(chosen)) > (sum(map(len, best.values())), len(best)):
            best = chosen
    return best


def _pairs(convs: list[Module], f: int) -> dict[str, list[Module]]:
    """Blocks of two in the file's order, where names tell nothing: all before the first enlarging one but the last."""
    first_up = next((k for k, m in enumerate(convs) if _up(m, f)), 0)
    equal = convs[:first_up]
    if len(equal) < 3 or len(equal) % 2 == 0 or any(m.shape[:2] != (f, f) for m in equal):
        return {}
    return {f"#{k}": equal[k : k + 2] for k in range(0, len(equal) - 1, 2)}


def _alike(a: str, b: str) -> int:
    """Letters from the beginning that two names share."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _chain(group: list[Module], f: int) -> bool:
    c = f
    for m in group:
        if m.shape[1] != c:
            return False
        c = m.shape[0]
    return c == f


def _attach(found: Parts, modules: list[Module], in_order: bool) -> bool:
    """Give norms and slopes to the convolutions whose names are most like theirs, or that they follow. False when one fits nowhere."""
    outside = [m for m in (found.head, *found.middle, *found.ups, found.hr, found.tail) if m is not None]
    order = {m.name: k for k, m in enumerate(modules)}
    for m in modules:
        if m.kind == "conv":
            continue
        block = _block_before(found, modules[: order[m.name]]) if in_order else _block_named(found, m.name)
        if block is not None:
            block.append(m)
            continue
        before = [o for o in outside if order[o.name] < order[m.name]]
        if in_order and not before:
            return False

        def likeness(o: Module, m: Module = m, before: list[Module] = before) -> tuple[int, bool]:
            return 0 if in_order else _alike(o.name, m.name), bool(before) and o is before[-1]

        owner = max(outside, key=likeness)
        if m.shape not in ((1,), (owner.shape[0],), (found.width,)):
            return False
        found.beside.setdefault(owner.name, []).append(m)
    return True


def _block_named(found: Parts, name: str) -> list[Module] | None:
    return next((b for p, b in found.blocks.items() if re.match(re.escape(p) + r"(?!\d)", name)), None)


def _block_before(found: Parts, modules: list[Module]) -> list[Module] | None:
    """The block of the last convolution."""
    conv = next((m for m in reversed(modules) if m.kind == "conv"), None)
    return next((b for b in found.blocks.values() if conv in b), None)


# ---- readings ----------------------------------------------------------------------------------------------------------------------------------


def readings(w: Weights, found: Parts) -> Iterator[Reading]:
    """What the network may be, the usual first."""
    slopes = any(m.kind == "vector" for m in w.modules)
    norms = any(m.kind == "norm" for m in w.modules)
    factors = (0.1, 1.0) if found.width >= 256 else (1.0, 0.1) if len(found.blocks) > 16 else (1.0,)
    if found.hr is not None and not slopes and not norms:
        yield Reading("MSRResNet", outer="leaky0.1", base="linear")
        yield Reading("MSRResNet", outer="leaky0.2", base="")
        return
    if slopes or norms:
        plain = Reading("SRResNet") if slopes else Reading("SRResNet", act="leaky0.2", outer="leaky0.2")
        tanh = replace(plain, name="SRGAN", end="tanh", signed_out=True)
        yield from (plain, tanh)
        yield replace(tanh, signed_in=True)
        yield replace(plain, signed_in=True, signed_out=True)
        yield replace(plain, signed_out=True)
        if found.channels == 3:
            yield replace(tanh, imagenet=True)
        if not slopes:
            yield Reading("SRResNet", act="relu", outer="relu")
            yield Reading("SRResNet", act="relu")
        return
    name = "WDSR" if found.skip else "EDSR"
    for factor in factors:
        if found.shifts:
            yield Reading(name, factor=factor, range=255.0)
            yield Reading(name, factor=factor)
            continue
        means = DIV2K if found.channels == 3 else ()
        yield Reading(name, factor=factor, range=255.0, mean=tuple(255 * m for m in means))
        yield Reading(name, factor=factor, mean=means)
        yield Reading(name, factor=factor)
        yield Reading(name, factor=factor, range=255.0)
    yield Reading("SRResNet", outer="relu")
    yield Reading("SRResNet", act="leaky0.2", outer="leaky0.2")


# ---- the network -------------------------------------------------------------------------------------------------------------------------------


def _network(w: Weights, found: Parts, reading: Reading) -> Graph:
    net = Net(w, found.channels)
    start = net.conv(net.input, found.shifts[0].name) if found.shifts else net.input
    if reading.imagenet:
        mean, std = (net.const(np.array(values, np.float32).reshape(1, -1, 1, 1)) for values in IMAGENET)
        start = net.emit("Div", [net.emit("Sub", [start, mean], 3), std], 3)
    first = x = _with(net, found, net.conv(start, found.head.name), found.head, reading.outer)
    for block in found.blocks.values():
        x = net.add(net.times(_block(net, x, block, reading.act), reading.factor), x)
    if found.middle:
        x = _with(net, found, net.conv(x, found.middle[0].name), found.middle[0], "")
        x = net.add(x, first)
    for up in found.ups:
        r = _root(up.shape[0] // found.width)
        y = net.conv(x, up.name)
        slopes = found.beside.get(up.name, [])
        early = bool(slopes) and slopes[0].shape == (up.shape[0],)
        x = net.shuffle(_with(net, found, y, up, reading.outer), r) if early else _with(net, found, net.shuffle(y, r), up, reading.outer)
    if found.hr is not None:
        x = _with(net, found, net.conv(x, found.hr.name), found.hr, reading.outer)
    x = net.conv(x, found.tail.name)
    x = net.shuffle(x, _root(net.channels[x] // found.channels))
    if found.skip is not None:
        y = net.conv(start, found.skip.name)
        x = net.add(x, net.shuffle(y, _root(net.channels[y] // found.channels)))
    if found.shifts:
        x = net.conv(x, found.shifts[1].name)
    if reading.base:
        x = net.add(x, net.resize(net.input, float(net.scale[x]), reading.base))
    x = net.act(x, reading.end)
    ones = (1.0,) * found.channels
    given, out = (2.0 if reading.signed_in else reading.range), (2.0 if reading.signed_out else reading.range)
    means = (ones if reading.signed_in else reading.mean, ones if reading.signed_out else reading.mean)
    feed = Feed("y" if found.channels == 1 else "rgb", given, means[0], out, means[1])
    return net.done(x, feed, reading.name)


def _with(net: Net, found: Parts, x: str, conv: Module, act: str) -> str:
    """The norms and slopes of a convolution outside the blocks, or the activation in their place."""
    beside = found.beside.get(conv.name, [])
    for m in sorted(beside, key=lambda m: m.kind == "vector"):
        x = net.norm(x, m.name) if m.kind == "norm" else net.prelu(x, m.name)
    return x if any(m.kind == "vector" for m in beside) else net.act(x, act)


def _block(net: Net, x: str, block: list[Module], act: str) -> str:
    """Convolution k, norm k, and behind all but the last the slopes or the activation."""
    convs, norms, slopes = ([m for m in block if m.kind == kind] for kind in ("conv", "norm", "vector"))
    if len(norms) not in (0, len(convs)) or len(slopes) > len(convs):
        raise ModelError(f"a block has {len(convs)} convolutions, {len(norms)} normalisations and {len(slopes)} slopes")
    for k, conv in enumerate(convs):
        x = net.conv(x, conv.name)
        if norms:
            x = net.norm(x, norms[k].name)
        if k < len(slopes):
            x = net.prelu(x, slopes[k].name)
        elif k < len(convs) - 1 and not (slopes and len(convs) > 2):
            x = net.act(x, act)
    return x
