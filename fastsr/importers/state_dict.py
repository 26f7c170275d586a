"""Which of a checkpoint's tensors are the network's weights, and under which names.

A checkpoint is a tree of dictionaries: weights, averaged weights, discriminators, optimizers, settings. `weights` finds the dictionary of the network
that makes pictures, takes wrappers' prefixes off its names and undoes weight normalisation (Salimans and Kingma, 2016) and spectral normalisation
(Miyato et al., 2018).
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import archs
from ..errors import ModelError
from ..graph import Graph


@dataclass(frozen=True)
class Lazy:
    """A tensor that has not been read yet; `read` gives it as `tensor_types.finished` says and raises ModelError when it cannot."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n


View = Callable[[Any], "Lazy | Mapping[Any, Any] | None"]
"""What a value of the file is: a tensor, a dictionary of further values, or nothing that matters."""

MAX_VISITED = 1 << 17
MAX_DEPTH = 12
MAX_NAME = 512
MAX_TENSORS = 1 << 16

WRAPPERS = (
    {"module", "_orig_mod", "_forward_module", "model", "net", "network", "netg", "net_g", "generator", "generator_ema", "gen", "g", "g_ema"}
    | {"netg_ema", "net_g_ema", "ema", "ema_model", "model_ema", "ema_net", "online_model", "sr_model", "sr_net", "student", "params", "model_g"}
    | {"g_model"}
)
"""Names that training programs put in front of the network's own, in small letters."""
DEVICES = ("module", "_orig_mod", "_forward_module")
"""What DataParallel, torch.compile and Fabric put in front of all names."""
EMA = re.compile(r"(?i)(^|_)ema(_|$)|averaged|shadow")
SUFFIX = r"(_(ema|state|state_dict|model|weights|params))*$"
GENERATOR = re.compile(rf"(?i)^(net_?g|gen|g|g_model|model_g|generator){SUFFIX}")
JUDGE = re.compile(rf"(?i)^(net_?d(_?[a-z\d])?|d|dis|disc|d_model|model_d|critic|discriminator(_?[a-z\d])?){SUFFIX}")
LOSS = re.compile(
    r"(?i)^(net_?f|vgg\d*|vgg_?loss|feature_extractor|criterion\w*|perceptual\w*|percep_?\w*|\w*_loss|loss_\w+|loss|losses|arcface"
    r"|\w*(psnr|ssim|lpips|metric)\w*)$"
)
COUNTER = re.compile(r"^(n_averaged|initted|steps?|decay|num_updates|global_step|iterations?)$")
TRAINING = re.compile(r"(?i)optim|scheduler|(?<!up)scaler|callback|^loops$|momentum|^grads?$")
DROPPED = re.compile(r"(^|\.)(num_batches_tracked|total_ops|total_params)$")
"""What layers, and programs that count operations, leave in a state dict and no network needs."""


@dataclass
class Found:
    """A dictionary with tensors in it, and the names that lead to it."""

    path: tuple[str, ...]
    tensors: dict[str, Lazy]

    @property
    def size(self) -> int:
        return sum(t.size for t in self.tensors.values())

    def any(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(p) for p in self.path)


def weights(root: Any, view: View) -> dict[str, np.ndarray]:
    """The network's weights by name, in the file's order; floating types as float32, C order, perhaps not writable.

    Raises ModelError when there are none, when they are a discriminator's only, or when one of them cannot be read.
    """
    found = search(root, view)
    if not found:
        top = view(root)
        names = ", ".join(repr(k[:40]) for k in list(top)[:8] if isinstance(k, str)) if isinstance(top, Mapping) else ""
        raise ModelError("holds no named weights" + (f" (but {names})" if names else "") + ": give the file with the network's state dict")
    chosen = choose([part for f in found for part in parts(f)])
    return plain({name: tensor.read() for name, tensor in chosen.items()})


def search(root: Any, view: View) -> list[Found]:
    """All dictionaries with tensors in them, each once, outer ones first."""
    queue: deque[tuple[tuple[str, ...], Any, int]] = deque([((), root, 0)])
    found: list[Found] = []
    seen: set[int] = set()
    keep = []
    visited = 0
    while queue:
        path, value, depth = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        keep.append(value)  # so that no other object gets the same id
        mapping = view(value)
        if not isinstance(mapping, Mapping):
            continue
        tensors: dict[str, Lazy] = {}
        inner = []
        for key, item in mapping.items():
            visited += 1
            if visited > MAX_VISITED:
                raise ModelError("holds absurdly many things: damaged, or not a model")
            if not isinstance(key, (str, bytes)) or len(key) > MAX_NAME:
                continue
            if isinstance(key, bytes):
                key = key.decode("utf-8", "replace")
            what = item if isinstance(item, (Lazy, Mapping)) else view(item)
            if isinstance(what, Lazy):
                if not DROPPED.search(key):
                    tensors[key] = what
            elif isinstance(what, Mapping) and what and not TRAINING.search(key):
                inner.append((key, item))
        if tensors:
            found.append(Found(path, tensors))
            if len(tensors) > MAX_TENSORS:
                raise ModelError(f"holds {len(tensors)} tensors, more than any model has")
        elif len(inner) > 1 and not any(is_known(k) for k, _ in inner) and (joined := join(inner, view)):
            found.append(Found(path, joined))
            continue
        if depth < MAX_DEPTH:
            queue.extend(((*path, k), item, depth + 1) for k, item in inner)
    return found


def is_known(key: str) -> bool:
    """True for names that training programs give to a whole network, or to what is not a layer."""
    return (
        key.lower() in WRAPPERS
        or bool(GENERATOR.search(key) or JUDGE.search(key) or LOSS.search(key) or EMA.search(key))
        or bool(re.search(r"(?i)state|dict|param|weight|model|config|arg|hyper|meta|epoch|iter|^\d+$", key))
    )


def join(inner: list[tuple[str, Any]], view: View) -> dict[str, Lazy]:
    """Dictionaries of layers that hold only tensors, as one with the layers' names in front; empty when they are something else."""
    joined: dict[str, Lazy] = {}
    for key, item in inner:
        mapping = item if isinstance(item, Mapping) else view(item)
        for name, value in (mapping or {}).items() if not isinstance(mapping, Lazy) else ():
            what = value if isinstance(value, Lazy) else view(value)
            if not isinstance(what, Lazy) or not isinstance(name, str) or len(name) > MAX_NAME or len(joined) > MAX_TENSORS:
                return {}
            joined[f"{key}.{name}"] = what
    return joined


def parts(found: Found) -> list[Found]:
    """A dictionary without prefixes that all names share; where it holds whole networks and nothing else, each for itself.

    What lies beside layers stays, with its prefix, unless its name says that it judges or measures pictures.
    """
    path, tensors = found.path, found.tensors
    while len(path) < 2 * MAX_DEPTH:
        groups: dict[str, dict[str, Lazy]] = {}
        for name, tensor in tensors.items():
            first, _, inner = name.partition(".")
            groups.setdefault(first if inner else "", {})[inner or name] = tensor
        if len(groups) > 1 and all(COUNTER.search(name) for name in groups.get("", {})):
            groups.pop("", None)
        judges = [f for f in groups if JUDGE.search(f)]
        if len(groups) == 1 and (only := next(iter(groups))) and (judges or is_wrapper(only, groups[only])):
            path, tensors = (*path, only), groups[only]
            continue
        makers = [f for f in groups if GENERATOR.search(f) or (EMA.search(f) and f.lower() in WRAPPERS)]
        losses = [f for f in groups if LOSS.search(f)]
        wrappers = [f for f in groups if f.lower() in WRAPPERS and f not in makers]
        if len(groups) > 1 and len({*makers, *judges, *losses, *wrappers}) == len(groups) and (makers or judges or losses):
            undotted(groups, makers)
            return [p for f in dict.fromkeys([*makers, *wrappers, *judges, *losses]) for p in parts(Found((*path, f), groups[f]))]
        left_out = [f for f in (*judges, *losses) if len(f) > 3]
        if not left_out or len(left_out) == len(groups):
            break
        tensors = {name: t for name, t in tensors.items() if name.partition(".")[0] not in left_out}
    return [Found(path, tensors)]


def is_wrapper(first: str, tensors: dict[str, Lazy]) -> bool:
    """True for a prefix that is not the network's own: old ESRGAN networks have all of their layers in a sequence called "model"."""
    return first in DEVICES or (first.lower() in WRAPPERS and not all(name[:1].isdigit() for name in tensors))


def undotted(groups: dict[str, dict[str, Lazy]], makers: list[str]) -> None:
    """Gives averaged weights whose names have lost their dots (LitEma) the names of the weights that they are averages of."""
    whole = {name.replace(".", ""): name for f, group in groups.items() if f not in makers for name in group if "." in name}
    for f in makers:
        if len(groups[f]) > 2 and not any("." in name for name in groups[f]):
            groups[f] = {whole[name]: t for name, t in groups[f].items() if name in whole}


def choose(found: list[Found]) -> dict[str, Lazy]:
    """The tensors of the network that makes pictures: averaged ones before "params" before a generator's before the largest."""
    makers = [f for f in found if f.tensors and not f.any(JUDGE) and not f.any(LOSS)]
    makers = [f for f in makers if not all(name.isdecimal() for name in f.tensors)] or makers  # lists of averaged weights, which have no names
    if not makers:
        names = ", ".join(".".join(f.path)[:60] for f in found[:4])
        raise ModelError(f"holds only what training needs ('{names}'): such a network judges pictures and makes none; give the generator's file")
    least = max(f.size for f in [f for f in makers if f.any(GENERATOR)] or makers) / 2

    def rank(f: Found) -> tuple[bool, bool, bool, int]:
        return f.any(EMA), any(p.lower() == "params" for p in f.path), f.any(GENERATOR), f.size

    return max((f for f in makers if f.size >= least), key=rank).tensors


def graph_of(path: str | os.PathLike[str], tensors_of: Callable[[BinaryIO], dict[str, np.ndarray]], scale: int = 0) -> Graph:
    """The Graph of a file of weights. tensors_of: reads them. scale: as for `archs.graph_of`.

    Raises ModelError, which names the file, and OSError when it cannot be opened.
    """
    path = Path(path)
    try:
        with open(path, "rb") as f:
            tensors = tensors_of(f)
    except ModelError as e:
        raise ModelError(f"'{os.fspath(path)}': {e}") from e.__cause__
    graph = archs.graph_of(tensors, path, scale=scale)
    graph.meta["source"] = path.name
    return graph


# ---- normalised weights --------------------------------------------------------------------------------------------------------------------------

PARAMETRIZED = re.compile(r"^(|.*\.)parametrizations\.(\w+)\.(original0|original1|original|0\._u|0\._v)$")
PLAIN_FORM = re.compile(r"^(|.*\.)(weight)_(g|v|orig|u)$")
BLOCK = 1 << 20
"""Numbers of a weight that are in double precision at a time."""
ROLES = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}


def plain(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights as the network uses them: normalised ones are computed from their parts. Raises ModelError for parts that do not fit."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    order: dict[str, np.ndarray | None] = {}
    for name, value in tensors.items():
        match = PARAMETRIZED.match(name) or PLAIN_FORM.match(name)
        if match:
            target = match.group(1) + match.group(2)
            groups.setdefault(target, {})[ROLES.get(match.group(3), match.group(3))] = value
            order.setdefault(target, None)
        else:
            order[name] = value
    out: dict[str, np.ndarray] = {}
    for name, made in order.items():
        if made is None:
            try:
                with np.errstate(all="ignore"):
                    made = combined(groups[name])
                if not np.isfinite(made).all():
                    raise ModelError("its numbers are too large")
            except ValueError as e:
                reason = str(e) if isinstance(e, ModelError) else "its parts have shapes that do not fit"
                raise ModelError(f"the normalised weight '{name[:200]}': {reason}: damaged file") from None
        out[name] = made
    return out


def combined(part: dict[str, np.ndarray]) -> np.ndarray:
    """One weight from its parts: g and v (weight normalisation) or orig, u and v (spectral normalisation; v may be missing)."""
    if "orig" in part:
        return spectral(part["orig"], part.get("u"), part.get("v"))
    if "g" not in part or "v" not in part:
        raise ModelError("one of its parts is missing")
    g, v = part["g"], part["v"]
    if g.ndim not in (0, v.ndim) or any(a not in (1, b) for a, b in zip(g.shape, v.shape)):
        raise ModelError("its parts have shapes that do not fit")
    axes = tuple(k for k in range(v.ndim) if g.ndim == 0 or g.shape[k] == 1)
    letters = list(range(v.ndim))
    squares: np.ndarray = np.einsum(v, letters, v, letters, [k for k in letters if k not in axes], dtype=np.float64)
    norm = np.sqrt(np.expand_dims(squares, axes))
    if not norm.all():
        raise ModelError("its direction is zero")
    out = np.empty(v.shape, np.float32)
    return np.multiply(v, g / norm, out=out, dtype=np.float64, casting="same_kind")


def spectral(weight: np.ndarray, u: np.ndarray | None, v: np.ndarray | None) -> np.ndarray:
    """weight / (u W v), where W has the axis of u's length as rows: the first, or the second for transposed convolutions.

    Where both have that length it is the one for which u is W v but for a factor, as training leaves them.
    """
    if u is None or u.ndim != 1 or weight.ndim < 2 or not weight.size:
        raise ModelError("one of its parts is missing")
    found = [norm_along(weight, axis, u, v) for axis in (0, 1) if weight.shape[axis] == u.size]
    if not any(found):
        raise ModelError("its parts have shapes that do not fit")
    _, sigma = max(f for f in found if f is not None)
    if sigma == 0 or not np.isfinite(sigma):
        raise ModelError("its norm is zero")
    return (weight / sigma).astype(np.float32)


def norm_along(weight: np.ndarray, axis: int, u: np.ndarray, v: np.ndarray | None) -> tuple[float, float] | None:
    """How well u and W v agree (0..1), and u W v, where `axis` of the weight is W's rows; None where v does not fit."""
    matrix, columns = np.moveaxis(weight, axis, 0), weight.size // u.size
    step = max(BLOCK // columns, 1)
    blocks = [slice(k, min(k + step, u.size)) for k in range(0, u.size, step)]

    def rows(block: slice) -> np.ndarray:
        return matrix[block].reshape(-1, columns).astype(np.float64)

    if v is None:
        v = sum((rows(b).T @ u[b] for b in blocks), np.zeros(columns))
        v = v / max(float(np.sqrt(v @ v)), 1e-12)
    if v.shape != (columns,):
        return None
    sigma = square = 0.0
    for b in blocks:
        product = rows(b) @ v
        sigma, square = sigma + float(u[b] @ product), square + float(product @ product)
    return (abs(sigma) / square**0.5 if square > 0 else 0.0), sigma
