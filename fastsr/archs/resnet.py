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
from .weights import Module, Weights, natural

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
    nearest: list[Module] = field(default_factory=list)
    """F to F behind the middle one: of nearest pixels, transposed, or the last of them without enlarging."""
    hr: Module | None = None
    skip: Module | None = None
    shifts: list[Module] = field(default_factory=list)
    beside: dict[str, list[Module]] = field(default_factory=dict)
    """Norms and slopes outside the blocks, by the name of the convolution that they belong to."""


@dataclass(frozen=True)
class Reading:
    """What the weights leave open. act: in blocks without slopes; outer: behind enlarging convolutions without slopes and, first, behind the head;
    factor: of a block's residual; end: activation of the result; signed_in, signed_out: pictures are -1..1 there; base: mode in which the input is
    enlarged and added; imagenet, imagenet_out: pictures are normalised by ImageNet's mean and deviation there; shifted: mean shifts among the weights
    are run, as super-image does not; nearest: how many of `Parts.nearest` enlarge; eps: of normalisations
    outside of enlarging; skip: around all blocks, None: where a convolution ends them; rare: see `choose.best`."""

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
    imagenet_out: bool = False
    shifted: bool = True
    first: bool = True
    nearest: int = 0
    eps: float | None = None
    skip: bool | None = None
    rare: bool = False


def detect(w: Weights) -> bool:
    """Whether all parts are there."""
    return parts(w) is not None


def build(w: Weights) -> list[Graph]:
    """All readings."""
    found = parts(w)
    if found is None:
        raise ModelError("the parts do not fit each other")
    if "mean" in w:
        w.used.add("mean")
    counts = _enlarging(found)
    every = [replace(r, nearest=n, rare=r.rare or n != counts[0]) for n in counts for r in readings(w, found)]
    return [_network(w, found, reading) for reading in every]


def _enlarging(found: Parts) -> list[int]:
    """How many convolutions of nearest pixels may enlarge, the usual first: all, or all but the last."""
    k = len(found.nearest)
    named = sum("up" in m.name.lower() for m in found.nearest)
    return [k - 1, k] if k > 2 or 0 < named < k else [k, k - 1] if k else [0]


# ---- the parts ---------------------------------------------------------------------------------------------------------------------------------


def parts(w: Weights) -> Parts | None:
    """The modules in their places, or None when one does not fit."""
    modules = [m for m in w.modules if m.name or w.shape("mean")[:1] + w.shape("mean")[2:] != (1, 1, 1)]
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
    found.hr = next((m for m in found.middle if "hr" in m.name.lower()), None)
    if found.hr is None and found.ups and len(found.middle) > 1:
        found.hr = found.middle[-1]
    if found.hr is not None:
        found.middle.remove(found.hr)
    if not found.ups and found.tail.shape[0] == c:
        found.middle, found.nearest = found.middle[:1], found.middle[1:]
    if len(found.middle) > 1 or len(found.nearest) > 4 or len(shifts) not in (0, 2):
        return None
    lost = [m.name for m in modules] == sorted((m.name for m in modules), key=natural)
    return found if _attach(found, modules, in_order, lost) else None


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


def _attach(found: Parts, modules: list[Module], in_order: bool, lost: bool) -> bool:
    """Give norms and slopes to the convolutions whose names are most like theirs, or that they follow. False when one fits nowhere.

    lost: the modules are sorted by name, so what follows what tells nothing where names are unlike.
    """
    order = {m.name: k for k, m in enumerate(modules)}
    outside = [m for m in (found.head, *found.middle, *found.ups, *found.nearest, found.hr, found.tail) if m is not None]
    outside.sort(key=lambda m: order[m.name])
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

        def likeness(o: Module, m: Module = m, before: list[Module] = before) -> tuple[int, int, bool]:
            begin, end = (0, 0) if in_order else (_alike(o.name, m.name), _alike(o.name[::-1], m.name[::-1]))
            return begin, 0 if begin else end, bool(before) and o is before[-1]

        owner = max(outside, key=likeness)
        if lost and not in_order and likeness(owner)[:2] == (0, 0):
            return False
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
    mean = w.tensors.get("mean")
    if mean is not None:
        means = tuple(float(m) for m in mean.reshape(-1))
        for factor in (0.1, 1.0):
            yield Reading("EDSR", factor=factor, range=255.0, mean=tuple(255 * m for m in means))
            yield Reading("EDSR", factor=factor, mean=means)
    elif found.hr is not None and not slopes and not norms:
        if found.ups:
            yield Reading("MSRResNet", outer="leaky0.1", base="linear")
        yield Reading("MSRResNet", outer="leaky0.2", base="")
        for act in ("relu", "leaky0.2", "leaky0.1"):
            yield Reading("MSRResNet", act="relu" if act == "leaky0.1" else act, outer=act, first=False, rare=True)
    elif slopes or norms:
        yield from _with_norms(found, slopes)
    else:
        yield from _plain(found, _shifted_range(w, found))


def _shifted_range(w: Weights, found: Parts) -> float:
    """The range of pixels that the mean shifts, by the colour that they make zero, tell: 255 or 1."""
    colours = [
        abs(float(b)) / max(abs(float(np.trace(k[..., 0, 0]))) / 3, 1e-6)
        for m in found.shifts[:1]
        for k in [w.tensors[f"{m.name}.weight"]]
        for b in w.tensors[f"{m.name}.bias"]
    ]
    return 255.0 if max(colours, default=0) > 1.5 else 1.0


def _with_norms(found: Parts, slopes: bool) -> Iterator[Reading]:
    """SRResNet, SRGAN and what is like them."""
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
        yield from (replace(r, act="silu", outer="silu", rare=True) for r in (plain, tanh))
        yield replace(tanh, act="relu", outer="relu", rare=True)
    yield replace(plain, end="sigmoid", rare=True)
    if found.channels == 3:
        for eps in (0.8, None):
            yield replace(plain, end="tanh", imagenet=True, imagenet_out=True, eps=eps, rare=True)
    yield replace(tanh, eps=0.8, rare=True)
    yield replace(tanh, eps=0.8, signed_in=True, rare=True)


def _plain(found: Parts, top: float) -> Iterator[Reading]:
    """EDSR, WDSR and what is like them. top: the range of pixels, where there are mean shifts."""
    factors = (0.1, 1.0) if found.width >= 256 else (1.0, 0.1)
    late = not (found.width >= 256 or len(found.blocks) > 16)
    name = "WDSR" if found.skip else "EDSR"
    means = DIV2K if found.channels == 3 else ()
    for k, factor in enumerate(factors):
        rare = late and k > 0
        if found.shifts:
            yield Reading(name, factor=factor, range=top, rare=rare)
            yield Reading(name, factor=factor, shifted=False, rare=rare)
            continue
        yield Reading(name, factor=factor, range=255.0, mean=tuple(255 * m for m in means), rare=rare)
        yield Reading(name, factor=factor, mean=means, rare=rare)
        yield Reading(name, factor=factor, rare=rare)
        yield Reading(name, factor=factor, range=255.0, rare=rare)
    yield Reading("SRResNet", outer="relu")
    yield Reading("SRResNet", act="leaky0.2", outer="leaky0.2")
    if not found.shifts:
        yield Reading("SRResNet", outer="relu", first=False, rare=True)
        yield Reading("SRGAN", outer="relu", end="tanh", signed_out=True, rare=True)
        for base in ("cubic", "linear"):
            yield Reading(name, base=base, rare=True)
        yield Reading(name, skip=not found.middle, rare=True)


# ---- the network -------------------------------------------------------------------------------------------------------------------------------


def _network(w: Weights, found: Parts, reading: Reading) -> Graph:
    net = Net(w, found.channels)
    shifts = found.shifts if reading.shifted else []
    start = net.conv(net.input, shifts[0].name) if shifts else net.input
    mean, std = (net.const(np.array(values, np.float32).reshape(1, -1, 1, 1)) for values in IMAGENET)
    if reading.imagenet:
        start = net.emit("Div", [net.emit("Sub", [start, mean], 3), std], 3)
    first = x = _with(net, found, net.conv(start, found.head.name), found.head, reading, reading.outer if reading.first else "")
    for block in found.blocks.values():
        x = net.add(net.times(_block(net, x, block, reading), reading.factor), x)
    if found.middle:
        x = _with(net, found, net.conv(x, found.middle[0].name), found.middle[0], reading, "")
    if bool(found.middle) if reading.skip is None else reading.skip:
        x = net.add(x, first)
    for up in found.nearest[: reading.nearest]:
        by = 3 if len(found.nearest) == 1 and w.scale_hint() == 3 else 2
        y = net.conv(net.resize(x, by), up.name) if up.shape[2] % 2 else net.conv_transpose(x, up.name, by)
        x = _with(net, found, y, up, reading, reading.outer)
    for up in found.ups:
        r = _root(up.shape[0] // found.width)
        y = net.conv(x, up.name)
        slopes = found.beside.get(up.name, [])
        early = bool(slopes) and slopes[0].shape == (up.shape[0],)
        if early:
            x = net.shuffle(_with(net, found, y, up, reading, reading.outer), r)
        else:
            x = _with(net, found, net.shuffle(y, r), up, reading, reading.outer)
    for last in [*found.nearest[reading.nearest :], *([found.hr] if found.hr is not None else [])]:
        x = _with(net, found, net.conv(x, last.name), last, reading, reading.outer)
    x = net.conv(x, found.tail.name)
    x = net.shuffle(x, _root(net.channels[x] // found.channels))
    if found.skip is not None:
        y = net.conv(start, found.skip.name)
        x = net.add(x, net.shuffle(y, _root(net.channels[y] // found.channels)))
    if shifts:
        x = net.conv(x, shifts[1].name)
    if reading.base:
        x = net.add(x, net.resize(net.input, float(net.scale[x]), reading.base))
    x = net.act(x, reading.end)
    if reading.imagenet_out:
        x = net.emit("Add", [net.emit("Mul", [x, std], 3), mean], 3)
    ones = (1.0,) * found.channels
    given, out = (2.0 if reading.signed_in else reading.range), (2.0 if reading.signed_out else reading.range)
    means = (ones if reading.signed_in else reading.mean, ones if reading.signed_out else reading.mean)
    feed = Feed("y" if found.channels == 1 else "rgb", given, means[0], out, means[1])
    return net.done(x, feed, reading.name, **({"rare": True} if reading.rare else {}))


def _with(net: Net, found: Parts, x: str, conv: Module, reading: Reading, act: str) -> str:
    """The norms and slopes of a convolution outside the blocks, or the activation in their place."""
    beside = found.beside.get(conv.name, [])
    for m in sorted(beside, key=lambda m: m.kind == "vector"):
        x = net.norm(x, m.name, reading.eps if m.shape == (found.width,) else None) if m.kind == "norm" else net.prelu(x, m.name)
    return x if any(m.kind == "vector" for m in beside) else net.act(x, act)


def _block(net: Net, x: str, block: list[Module], reading: Reading) -> str:
    """Convolution k, norm k, and behind all but the last the slopes or the activation."""
    convs, norms, slopes = ([m for m in block if m.kind == kind] for kind in ("conv", "norm", "vector"))
    if len(norms) not in (0, len(convs)) or len(slopes) > len(convs):
        raise ModelError(f"a block has {len(convs)} convolutions, {len(norms)} normalisations and {len(slopes)} slopes")
    for k, conv in enumerate(convs):
        x = net.conv(x, conv.name)
        if norms:
            x = net.norm(x, norms[k].name, reading.eps)
        if k < len(slopes):
            x = net.prelu(x, slopes[k].name)
        elif k < len(convs) - 1 and not (slopes and len(convs) > 2):
            x = net.act(x, reading.act)
    return x
