"""Pictures as an ONNX graph sees them: arrays whose axes are made from pieces of N, C, H and W.

Exporters spell pixel shuffles, channel shuffles and changes of layout with Reshape and Transpose. Here they only change how a tensor's axes are made
from `Atom`s, pieces of the axes of a value (N, C, H, W) of the Graph; what the pieces amount to is decided when an operator needs the pixels
(onnx_views).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from .values import Dim

MAX_RANK = 8


class Atom:
    """A piece of an axis, `size` an int of at least 2 or a Dim. copies: it repeats what the other pieces hold. Two atoms are equal when the same."""

    __slots__ = ("copies", "size")

    def __init__(self, size: Any, copies: bool = False) -> None:
        self.size, self.copies = size, copies


Axis = tuple[Atom, ...]


@dataclass
class Picture:
    """A tensor with the numbers of the Graph's value `name`.

    size: letter of NCHW -> int or Dim, of that value; C is always an int.
    parts: letter -> the pieces that this axis of the value is cut into, outermost first.
    axes: the axes of the tensor, each a product of pieces, outermost first; () for an axis of size 1.
    """

    name: str
    size: dict[str, Any]
    parts: dict[str, Axis]
    axes: tuple[Axis, ...]

    @property
    def channels(self) -> int:
        return int(self.size["C"])

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> list[Any]:
        """Sizes of the tensor's axes."""
        return [product(axis) for axis in self.axes]

    @property
    def layout(self) -> str:
        """Which of N, C, H, W each axis is, for instance "NHWC"; "" when some axis is more, less or something else."""
        found = []
        for axis in self.axes:
            letter = "" if not axis else next((a for a, p in self.parts.items() if p == axis), None)
            if letter is None:
                return ""
            found.append(letter)
        missing = [a for a in "NCHW" if a not in found]
        blank = [a for a in missing if a == "N" or not self.parts[a]]
        wanted = found.count("")
        if len(set(found) - {""}) + wanted != len(found) or len(blank) < wanted or len(blank) != len(missing):
            return ""
        blank = blank[len(blank) - wanted :]
        return "".join(letter or blank.pop(0) for letter in found)

    def view(self, axes: tuple[Axis, ...]) -> Picture:
        """The same value with other axes."""
        if len(axes) > MAX_RANK:
            raise ModelError(f"makes an array of {len(axes)} axes, which is not supported")
        return Picture(self.name, self.size, self.parts, axes)


def product(axis: Axis) -> Any:
    """The size of an axis."""
    size: Any = 1
    for atom in axis:
        size = atom.size * size
    return size


def make(name: str, layout: str, size: dict[str, Any]) -> Picture:
    """A whole value of the Graph, its axes in the order of `layout`; letters left out must have size 1."""
    parts: dict[str, Axis] = {a: () if not isinstance(size[a], Dim) and size[a] == 1 else (Atom(size[a]),) for a in "NCHW"}
    return Picture(name, size, parts, tuple(parts[a] for a in layout))


# ---- changes of axes ---------------------------------------------------------------------------------------------------------------------------


def ratio(x: Any, y: Any) -> int | None:
    """k when x = k y for every picture, for an integer k of at least 1; else None."""
    if isinstance(x, Dim) and isinstance(y, Dim) and x.var != y.var and isinstance(y.var, tuple) and y.var[0] == "floor" and (y.a, y.b) == (1, 0):
        y = y.var[1]
    if isinstance(x, Dim) and isinstance(y, Dim):
        if x.var != y.var or x.b * y.a != y.b * x.a:
            return None
        q = x.a / y.a
        return int(q) if q.denominator == 1 and q >= 1 else None
    if isinstance(x, Dim) or isinstance(y, Dim):
        return None
    return x // y if y >= 1 and x % y == 0 and x >= y else None


def _cut(x: Picture, atom: Atom, outer: Any, inner: Any) -> tuple[Picture, Atom, Atom]:
    """The picture with `atom` cut into two."""
    pieces = Atom(outer, atom.copies), Atom(inner, atom.copies)

    def replace(axis: Axis) -> Axis:
        return tuple(b for a in axis for b in (pieces if a is atom else (a,)))

    return Picture(x.name, x.size, {k: replace(v) for k, v in x.parts.items()}, tuple(replace(a) for a in x.axes)), *pieces


def _take(x: Picture, atoms: list[Atom], size: Any, last: bool) -> tuple[Picture, Axis]:
    """Remove pieces that make up `size` from the front of `atoms`, or from the back; pieces are cut where needed."""
    taken: list[Atom] = []
    while isinstance(size, Dim) or size != 1:
        if not atoms:
            raise ModelError("reshapes a picture to a shape of more numbers than it has: damaged file")
        atom = atoms.pop(-1 if last else 0)
        parts: Any = ratio(atom.size, size)
        if isinstance(atom.size, Dim) and not isinstance(size, Dim):
            parts = Dim(atom.size.var, atom.size.a / size, atom.size.b / size, True, atom.size.depth)
        if parts == 1:
            taken.append(atom)
            break
        if parts is not None:
            x, outer, inner = _cut(x, atom, *((parts, size) if last else (size, parts)))
            taken.append(inner if last else outer)
            atoms.insert(len(atoms) if last else 0, outer if last else inner)
            break
        rest = ratio(size, atom.size)
        if rest is None and isinstance(size, Dim) and not isinstance(atom.size, Dim):
            divided = Dim(size.var, size.a / atom.size, size.b / atom.size, True, size.depth)
            rest = divided if divided.a.denominator == 1 and divided.b.denominator == 1 else None  # type: ignore[assignment]
        if rest is None:
            raise ModelError("reshapes a picture in a way that moves pixels, which is not supported")
        taken.append(atom)
        size = rest
    return x, tuple(taken[::-1] if last else taken)


def reshape(x: Picture, target: list[Any], allowzero: bool = False) -> Picture:
    """Another cut of the same sequence of numbers into axes: `target` as Reshape takes it."""
    if len(target) > MAX_RANK:
        raise ModelError(f"reshapes a picture to {len(target)} axes, which is not supported")
    wanted: list[Any] = []
    for i, n in enumerate(target):
        zero = not isinstance(n, Dim) and n == 0 and not allowzero
        if zero and i >= x.rank:
            raise ModelError("keeps an axis that its input does not have: damaged file")
        wanted.append(product(x.axes[i]) if zero else n)
    free = [i for i, n in enumerate(wanted) if not isinstance(n, Dim) and n == -1]
    if len(free) > 1 or any(not isinstance(n, Dim) and n < 1 and n != -1 for n in wanted):
        raise ModelError(f"reshapes a picture to {[str(n) for n in wanted]}: damaged file")
    at = free[0] if free else len(wanted)
    atoms = [a for axis in x.axes for a in axis]
    front: list[Axis] = []
    for n in wanted[:at]:
        x, axis = _take(x, atoms, n, False)
        front.append(axis)
    back: list[Axis] = []
    for n in wanted[:at:-1]:
        x, axis = _take(x, atoms, n, True)
        back.append(axis)
    if not free and atoms:
        raise ModelError("reshapes a picture to a shape of fewer numbers than it has: damaged file")
    return x.view((*front, *([tuple(atoms)] if free else []), *back[::-1]))
