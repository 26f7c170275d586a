"""What flows through a TensorFlow graph while it is imported: run-time pictures, arrays known now, and the middles of idioms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from .values import Array, Filled


@dataclass
class Picture:
    """A float32 value of the running network, named as in our Graph, where it is (N, C, H, W).

    layout: which of N, C, H, W each axis of the TensorFlow tensor is, for instance "NHWC"; a letter that is missing stands for an axis of size 1.
    size: letter -> int or Dim. C is always an int.
    """

    name: str
    layout: str
    size: dict[str, Any]

    @property
    def channels(self) -> int:
        return int(self.size["C"])

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(self.size[letter] for letter in self.layout)

    def like(self, name: str, **size: Any) -> Picture:
        """A picture of that name, of this layout and size except for what is given."""
        return Picture(name, self.layout, {**self.size, **size})


@dataclass
class Blocks:
    """A picture cut into batches (SpaceToBatchND) on its way to a dilated convolution. pads: top, left, bottom, right, ints or Dims.

    weight: name of the filter once it has been applied.
    """

    source: Picture
    block: list[int]
    pads: list[Any]
    weight: str = ""
    group: int = 1


@dataclass
class Repeated:
    """A picture with a fifth axis after axis `letter`, along which it was repeated `factor` times (tf.repeat)."""

    source: Picture
    letter: str
    factor: int = 1

    @property
    def at(self) -> int:
        """The number of the fifth axis."""
        return self.source.layout.index(self.letter) + 1


Value: TypeAlias = Picture | Array | Filled | Blocks | Repeated
