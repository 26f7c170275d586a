"""Programs that look at whole pictures, cut into programs that can be run tile by tile.

A mean over the picture (channel attention, instance normalisation) needs all of a value before anything that depends on the mean can be computed. So
the network is cut there: what lies between two such places is a `Piece`, a Program of its own, whose inputs are inputs of the network and values that
earlier pieces made, kept whole. Values of one pixel are computed between the pieces, step by step, and go into them as pictures of equal pixels.

All inputs of a Program have one size, so a network of several scales is also cut where values meet that come from inputs of different sizes. Which
sizes are equal is known for a picture: `split` plans for one size. There ResizeTo has become a Resize by fixed factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .graph import Feed
from .program import OVER_PICTURE, Program, Step, Value, size_scale

Size = tuple[int, int]


def is_staged(program: Program) -> bool:
    """Whether the program has steps that can only be run after `split`."""
    return any(s.kind in OVER_PICTURE or s.kind == "ResizeTo" for s in program.steps)


def sized(program: Program, height: int, width: int) -> Program:
    """The program for pictures of that size only: ResizeTo of pictures has become Resize."""
    sizes, small = program.value_sizes(height, width), program.small_values()
    steps = [_resize(s, sizes) if s.kind == "ResizeTo" and not small[s.inputs[0]] else s for s in program.steps]
    return replace(program, steps=steps)


@dataclass(frozen=True)
class Piece:
    """A Program to be run tile by tile.

    inputs, outputs: the values of `Plan` that are fed to it and come from it, in its order; inputs of one pixel are fed as pictures of `size`.
    size: (H, W) of its inputs. work: arithmetic, about. key: equal for pieces with equal programs, of all plans for one program.
    """

    program: Program
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    size: Size
    work: int
    key: tuple[object, ...]


@dataclass(frozen=True)
class Plan:
    """What computes some values of a program for inputs of one size, in running order.

    actions: pieces, and single steps on whole values: those of one pixel, and ResizeTo of one pixel, which repeats it. done: of each action, the
    values that nothing reads after it. sizes, channels: of all values; those behind the program's own are made where a step was cut in two.
    """

    actions: list[Piece | Step]
    done: list[tuple[int, ...]]
    sizes: list[Size]
    channels: list[int]

    def shape(self, v: int) -> tuple[int, int, int, int]:
        """The shape of a value for one picture."""
        return 1, self.channels[v], *self.sizes[v]

    @property
    def pieces(self) -> list[Piece]:
        """The actions that are pieces."""
        return [a for a in self.actions if isinstance(a, Piece)]


def split(program: Program, height: int, width: int, wanted: Iterable[int]) -> Plan:
    """A plan for the values `wanted` from inputs of `height` x `width`. Raises PictureError when the picture does not fit the network."""
    return _Split(program, height, width, set(wanted)).plan()


@dataclass
class _Item:
    """A step, or a part of one: its epilogue's entries first to last of step number `number`."""

    step: Step
    number: int
    first: int
    last: int
    level: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        return self.number, self.first, self.last, self.step.params.get("scale_h"), self.step.params.get("scale_w")


@dataclass
class _Group:
    """Steps that become a piece. order: (level, turn), each computed after all groups of lower order."""

    order: tuple[int, int]
    size: Size
    items: list[_Item] = field(default_factory=list)


class _Split:
    def __init__(self, program: Program, height: int, width: int, wanted: set[int]) -> None:
        self.program, self.wanted = program, wanted
        self.sizes = program.value_sizes(height, width)
        self.channels = [v.channels for v in program.values]
        self.small = program.small_values()
        self.levels = [0] * len(program.values)
        self.groups: dict[tuple[int, int, Size], _Group] = {}
        self.group_of: dict[int, _Group] = {}  # of values that pieces make
        self.alone: list[_Item] = []

    def plan(self) -> Plan:
        items = self.needed()
        for item in items:
            above = item.step.kind in OVER_PICTURE
            item.level = self.levels[item.step.output] = max((self.levels[v] for v in item.step.reads()), default=0) + above
        self.sink(items)
        for item in items:
            self.place(item)
        return self.finish()

    # ---- what is to be done --------------------------------------------------------------------------------------------------------------------

    def needed(self) -> list[_Item]:
        """The steps that the wanted values need, without ResizeTo of pictures."""
        needed, items = set(self.wanted), []
        for number in range(len(self.program.steps) - 1, -1, -1):
            step = self.program.steps[number]
            if step.output not in needed:
                continue
            if step.kind == "ResizeTo":
                step = replace(step, inputs=step.inputs[:1]) if self.small[step.inputs[0]] else _resize(step, self.sizes)
            needed.update(step.reads())
            items.append(_Item(step, number, 0, len(step.epilogue)))
        return items[::-1]

    def sink(self, items: list[_Item]) -> None:
        """Compute a value only where it is first read, if what it is made from has to be kept until there anyway."""
        readers: dict[int, list[_Item]] = {}
        for item in items:
            for v in item.step.reads():
                readers.setdefault(v, []).append(item)
        until = {v: max(i.level for i in found) for v, found in readers.items()}
        until |= dict.fromkeys(self.program.inputs, max((i.level for i in items), default=0))
        for item in reversed(items):
            v = item.step.output
            if self.small[v] or v in self.wanted or any(r.step.kind in OVER_PICTURE for r in readers[v]):
                continue
            level = min(r.level for r in readers[v])
            if level > item.level and all(self.small[r] or until[r] >= level for r in item.step.reads()):
                item.level = self.levels[v] = level

    # ---- which piece a step belongs to -----------------------------------------------------------------------------------------------------------

    def place(self, item: _Item) -> None:
        step = item.step
        if self.small[step.output] or step.kind in OVER_PICTURE:
            self.alone.append(item)
            return
        if step.kind == "ResizeTo":
            if step.epilogue:
                item, rest = self.cut(item, 0)
                self.alone.append(item)
                self.place(rest)
            else:
                self.alone.append(item)
            return
        group = self.group(item.level, step.inputs)
        size = self.before_epilogue(step)
        for k, e in enumerate(step.epilogue):
            if e.value is not None and not self.fits(e.value, size, group):
                if k or step.kind != "Pointwise":
                    head, rest = self.cut(item, k)
                    self.put(head, group)
                    self.place(rest)
                    return
                group = self.group(item.level, (*step.inputs, *(() if self.small[e.value] else (e.value,))), apart=self.small[e.value])
            if e.op == "DepthToSpace":
                size = size[0] * int(e.a), size[1] * int(e.a)
        self.put(item, group)

    def group(self, level: int, reads: Sequence[int], apart: bool = False) -> _Group:
        """The piece in which values of one size can be combined: the last of those that make them, or a new one behind these.

        apart: behind these in any case.
        """
        size = self.sizes[reads[0]]
        makers = {id(g): g for v in reads if (g := self.group_of.get(v)) is not None and g.order[0] == level}
        turn = max((g.order[1] for g in makers.values()), default=-1)
        last = [g for g in makers.values() if g.order[1] == turn]
        if len(last) == 1 and not apart and all(self.group_of.get(v) is last[0] or self.sizes[v] == last[0].size for v in reads):
            return last[0]
        order = (level, turn + 1)
        return self.groups.setdefault((*order, size), _Group(order, size))

    def fits(self, v: int, size: Size, group: _Group) -> bool:
        """Whether value v can be an operand in that piece where the result has that size."""
        if not self.small[v]:
            maker = self.group_of.get(v)
            if maker is group:
                return True
            if maker is not None and maker.order >= group.order:
                return False
        return size == group.size

    def before_epilogue(self, step: Step) -> Size:
        h, w = self.sizes[step.output]
        return h // step.block, w // step.block

    def put(self, item: _Item, group: _Group) -> None:
        group.items.append(item)
        self.group_of[item.step.output] = group

    def cut(self, item: _Item, k: int) -> tuple[_Item, _Item]:
        """The item with the first k entries of its epilogue, and the rest, which reads its result."""
        step = item.step
        size, channels = self.before_epilogue(step), self.channels[step.output] * step.block**2
        for e in step.epilogue[:k]:
            if e.op == "DepthToSpace":
                size, channels = self.sizes[step.output], self.channels[step.output]
        middle = len(self.sizes)
        self.sizes.append(size)
        self.channels.append(channels)
        self.small.append(False)
        self.levels.append(item.level)
        head = replace(step, epilogue=step.epilogue[:k], output=middle)
        rest = Step("Pointwise", (middle,), step.output, {}, epilogue=step.epilogue[k:], name=step.name)
        at = item.first + k
        return _Item(head, item.number, item.first, at, item.level), _Item(rest, item.number, at, item.last, item.level)

    # ---- the plan --------------------------------------------------------------------------------------------------------------------------------

    def finish(self) -> Plan:
        readers: dict[int, set[int]] = {}
        for g in self.groups.values():
            for item in g.items:
                for v in item.step.reads():
                    readers.setdefault(v, set()).add(id(g))
        kept = self.wanted | {v for item in self.alone for v in item.step.reads()}
        found: list[tuple[tuple[int, int], Piece | Step]] = [((i.level, -1), i.step) for i in self.alone]
        for g in self.groups.values():
            if g.items:
                made = [i.step.output for i in g.items]
                outputs = tuple(v for v in made if v in kept or readers.get(v, set()) - {id(g)})
                found.append((g.order, self.piece(g, outputs)))
        actions = [action for _, action in sorted(found, key=lambda f: f[0])]
        last: dict[int, int] = {}
        for k, a in enumerate(actions):
            last |= dict.fromkeys(a.inputs if isinstance(a, Piece) else a.reads(), k)
        done = [tuple(v for v, n in last.items() if n == k and v not in self.wanted) for k in range(len(actions))]
        return Plan(actions, done, self.sizes, self.channels)

    def piece(self, group: _Group, outputs: tuple[int, ...]) -> Piece:
        made = [i.step.output for i in group.items]
        inputs = tuple(dict.fromkeys(v for i in group.items for v in i.step.reads() if v not in set(made)))
        number = {v: k for k, v in enumerate((*inputs, *made))}
        steps = [_renumbered(i.step, number) for i in group.items]
        values = [Value(self.name(v), self.channels[v]) for v in number]
        program = Program(values, list(range(len(inputs))), [(self.name(v), number[v]) for v in outputs], steps, Feed())
        work = sum(_work(i.step, self.sizes[i.step.output], self.channels[i.step.output]) for i in group.items)
        return Piece(program, inputs, outputs, group.size, work, (inputs, outputs, *(i.key for i in group.items)))

    def name(self, v: int) -> str:
        return self.program.values[v].name if v < len(self.program.values) else f"part {v}"


def _resize(step: Step, sizes: Sequence[Size]) -> Step:
    """A ResizeTo of a picture as a Resize."""
    x, to = step.inputs
    h, w = (size_scale(n, m) for n, m in zip(sizes[x], sizes[to], strict=True))
    return replace(step, kind="Resize", inputs=(x,), params={**step.params, "scale_h": h, "scale_w": w})


def _renumbered(step: Step, number: dict[int, int]) -> Step:
    epilogue = tuple(e if e.value is None else replace(e, value=number[e.value]) for e in step.epilogue)
    return replace(step, inputs=tuple(number[v] for v in step.inputs), output=number[step.output], epilogue=epilogue)


def _work(step: Step, size: Size, channels: int) -> int:
    pixels = size[0] * size[1]
    return pixels * channels * (1 + len(step.epilogue)) + (0 if step.weight is None else 2 * step.weight.size * pixels // step.block**2)
