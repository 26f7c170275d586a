"""The tensors of a weights-only file, by name, with a note of which were used: an architecture that leaves some over is the wrong one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import ModelError

NORM = ("weight", "bias", "running_mean", "running_var")
IGNORED = ("num_batches_tracked",)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts "body.2" before "body.10"."""
    return [(0, int(part), "") if re.fullmatch("[0-9]{1,18}", part) else (1, 0, part) for part in re.split("([0-9]+)", name) if part]


class ScaleError(ModelError):
    """A scale was asked for that the network does not have: no other architecture needs to be tried."""


@dataclass(frozen=True)
class Module:
    """Tensors that share a name up to the last dot. kind: "conv" (weight of four axes), "linear" (two), "norm", "vector" (PReLU slopes), "other"."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bias: int = 0
    """Numbers of the bias, 0 without one."""


class Weights:
    """float tensors in PyTorch's names and layouts: convolutions (O, I / groups, kh, kw), transposed ones (I, O / groups, kh, kw).

    tensors: in the order in which the network defines them, if the file keeps it. stem: name of the file without suffix, which may tell the scale.
    keras: the network was made with Keras, whose pixel shuffle and batch normalisation differ. scale: what is asked for, 0 for nothing.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], stem: str = "", keras: bool = False, scale: int = 0) -> None:
        self.keras = keras
        self.scale = scale
        names = [n for n in tensors if n.rpartition(".")[2] not in IGNORED]
        if names == sorted(names):  # as safetensors writes them: the network's order is lost
            names.sort(key=natural)
        self.tensors = {n: tensors[n] for n in names}
        self.stem = stem
        self.used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        """The tensor as float32, noted as used. Raises ModelError when there is none of that name."""
        if name not in self.tensors:
            raise ModelError(f"the file has no tensor '{name}', which this architecture needs: damaged file, or a variant that fastsr does not know")
        self.used.add(name)
        return np.ascontiguousarray(self.tensors[name], np.float32)

    def get(self, name: str) -> np.ndarray | None:
        """The tensor, or None."""
        return self[name] if name in self.tensors else None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor that the architecture needs; not noted as a use. () when there is none."""
        return self.tensors[name].shape if name in self.tensors else ()

    def skip(self, pattern: str) -> None:
        """Note as used what the picture does not depend on: names that match the regular expression from their beginning."""
        self.used.update(n for n in self.tensors if re.match(pattern, n))

    def left(self) -> list[str]:
        """Tensors that were not used."""
        return [n for n in self.tensors if n not in self.used]

    def has(self, pattern: str) -> bool:
        """Whether a name matches the regular expression as a whole."""
        compiled = re.compile(pattern)
        return any(compiled.fullmatch(n) for n in self.tensors)

    def numbers(self, pattern: str) -> list[int]:
        """The different numbers that stand for the first group of the regular expression in names that begin with it, in order."""
        compiled = re.compile(pattern)
        return sorted({int(m.group(1)) for n in self.tensors if (m := compiled.match(n))})

    def scale_hint(self) -> int:
        """The scale that is asked for, else the one that the file's name tells ("x2", "2x", "scale_3"), or 0."""
        if self.scale:
            return self.scale
        patterns = r"(?i)(?<![a-z0-9])(?:x([2-8])|([2-8])x|scale[_-]?([2-8]))(?![0-9])", r"(?i)x([2-8])(?![0-9a-z])"
        found = next((m for p in patterns if (m := re.search(p, self.stem))), None)
        return next((int(g) for g in found.groups() if g), 0) if found else 0

    def one_of(self, scales: Sequence[int], usual: int, strict: bool = True) -> int:
        """One of the scales that a network has: the one asked for, or that the file's name tells, else the usual one.

        strict: a name that tells another one is an error. Raises ScaleError for a scale that is not among them.
        """
        hint = self.scale_hint()
        if hint in scales:
            return hint
        if hint and (strict or self.scale):
            who = "scale" if self.scale else "the file's name tells scale"
            text = f"{who} {hint}" + (" is asked for" if self.scale else "")
            raise ScaleError(f"{text}, and the network has {', '.join(f'x{n}' for n in sorted(scales))}: choose one of these with scale=")
        return usual

    def renamed(self, rules: Mapping[str, str]) -> Weights:
        """Another Weights in which each regular expression at the beginning of a name was replaced; the first rule that matches counts."""
        compiled = [(re.compile(k), v) for k, v in rules.items()]

        def new(name: str) -> str:
            for pattern, to in compiled:
                changed, n = pattern.subn(to, name, count=1)
                if n and pattern.match(name):
                    return changed
            return name

        out = Weights({}, self.stem, self.keras, self.scale)
        out.tensors = {new(n): t for n, t in self.tensors.items()}
        return out

    @cached_property
    def modules(self) -> list[Module]:
        """The modules, in order of their first tensor."""
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, tensor in self.tensors.items():
            module, _, part = name.rpartition(".")
            groups.setdefault(module, {})[part] = tensor
        found = []
        for name, parts in groups.items():
            weight = parts.get("weight")
            bias = parts["bias"].size if "bias" in parts else 0
            if weight is None or not set(parts) <= set(NORM):
                kind, shape = "other", ()
            elif "running_mean" in parts:
                kind, shape = "norm", weight.shape
            else:
                kind = {4: "conv", 2: "linear", 1: "vector" if not bias else "norm"}.get(weight.ndim, "other")
                shape = weight.shape
            found.append(Module(name, kind, tuple(shape), bias))
        return found
