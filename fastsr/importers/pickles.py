"""Python pickles read as data: an interpreter of the pickle machine (protocols 0 to 5) that never imports or calls what a pickle names.

Numbers, texts and containers come out as themselves (sets as lists), a class or function as a `Name`, and whatever a pickle would make by calling one
as a `Record` of what it would be called with. The opcodes are those of CPython's pickletools. What the opcodes of a file may cost is bounded, so that
a small file cannot take much time or memory. Containers may contain themselves or be shared very often: whoever walks through them must bear it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from ..errors import ModelError
from .pickle_machine import CONTAINER, ENTRY, MAX_COST, STEP, Machine, Name, Record

__all__ = ["Name", "Record", "load"]

MAX_LONG_BYTES = 1024


def load(data: memoryview, at: int = 0, persistent: Callable[[Any], Any] | None = None, cost: int = MAX_COST) -> tuple[Any, int]:
    """The object of the pickle that starts at byte `at`, and where the next byte after it is.

    persistent: gives the object for a persistent id. cost: about the bytes that its objects may take besides texts. Raises ModelError when the pickle
    is damaged, asks for absurd amounts of memory or time, or calls something that runs code; nothing of what it names is imported or called ever.
    """
    machine = Machine(data, at, persistent, cost)
    try:
        return run(machine), machine.at
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as e:
        if isinstance(e, ModelError):
            raise
        raise ModelError("has a damaged pickle: download the file again") from None


def run(m: Machine) -> Any:
    """Runs to the STOP; returns what lies on top of the stack then."""
    data, end, table = m.data, len(m.data), OPCODES
    while True:
        if m.at >= end:
            raise ModelError("ends in the middle of a pickle: the file is damaged or its download was not finished")
        function, argument = table[data[m.at]]
        m.at += 1
        m.cost -= STEP
        if m.cost < 0:
            raise ModelError("has a pickle of absurdly many objects: damaged, or not a model")
        if function is None:
            if m.outer:
                raise ModelError("has a damaged pickle: download the file again")
            return m.stack.pop()
        function(m, argument)


# ---- opcodes: each function takes the machine and the argument of its line in OPCODES ------------------------------------------------------------


def push(m: Machine, value: Any) -> None:
    """A constant."""
    m.stack.append(value)


def push_new(m: Machine, kind: Callable[[], Any]) -> None:
    """An empty container."""
    m.cost -= CONTAINER
    m.stack.append(kind())


def push_number(m: Machine, form: str) -> None:
    """A number of a fixed size."""
    m.stack.append(m.number(form))


def integer(m: Machine, long: bool) -> None:
    """An integer, or in some cases a bool, in decimal."""
    text = m.line()
    if not long and text in (b"00", b"01"):
        m.stack.append(text == b"01")
        return
    if not re.fullmatch(rb"\s*[+-]?\d{1,1200}L?\s*", text):
        raise ModelError("has a damaged pickle: a number that is none")
    m.cost -= len(text)
    m.stack.append(int(text.strip().rstrip(b"L")))


def long_bytes(m: Machine, form: str) -> None:
    """An integer of any size."""
    n = m.number(form)
    if not 0 <= n <= MAX_LONG_BYTES:
        raise ModelError("has a number of absurd size in its pickle: damaged file")
    m.cost -= n
    m.stack.append(int.from_bytes(m.take(n), "little", signed=True))


def float_text(m: Machine, _: Any) -> None:
    """A number in decimal."""
    m.stack.append(float(m.line()))


def quoted(m: Machine, _: Any) -> None:
    """A Python 2 string as a literal."""
    text = m.line().strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ModelError("has a damaged pickle: a text without quotes")
    m.stack.append(decoded(unescaped(text[1:-1])))


def unescaped(text: bytes) -> bytes:
    """Bytes of the inside of a Python string literal."""
    if b"\\" not in text:
        return text
    letters = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"\n": b""}

    def one(match: re.Match[bytes]) -> bytes:
        what = match.group(1)
        if what[:1] == b"x":
            return bytes([int(what[1:], 16)])
        if what[:1].isdigit():
            return bytes([int(what, 8) & 255])
        return letters.get(what, what if what in (b"\\", b"'", b'"') else b"\\" + what)

    return re.sub(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|[\s\S])", one, text)


def decoded(text: bytes) -> str | bytes:
    """A Python 2 string: a text where it is UTF-8, bytes otherwise."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text


def old_string(m: Machine, form: str) -> None:
    """A Python 2 string."""
    m.stack.append(decoded(bytes(m.take(m.number(form)))))


def unicode_line(m: Machine, _: Any) -> None:
    """A text with escapes, up to a newline."""
    m.stack.append(m.line().decode("raw-unicode-escape"))


def unicode_(m: Machine, form: str) -> None:
    """A text."""
    m.stack.append(str(m.take(m.number(form)), "utf-8", "surrogatepass"))


def bytes_(m: Machine, form: str) -> None:
    """Bytes."""
    m.stack.append(bytes(m.take(m.number(form))))


def mark(m: Machine, _: Any) -> None:
    """Begins a new stack."""
    m.cost -= CONTAINER
    m.outer.append(m.stack)
    m.stack = []


def pop(m: Machine, _: Any) -> None:
    """Drops one object, or the last mark."""
    if m.stack:
        m.stack.pop()
    else:
        m.marked()


def pop_mark(m: Machine, _: Any) -> None:
    """Drops what lies above the last mark, and the mark."""
    m.marked()


def dup(m: Machine, _: Any) -> None:
    """The same object once more."""
    m.stack.append(m.stack[-1])


def tuple_(m: Machine, n: int | None) -> None:
    """A tuple of the last n objects, or of those above the mark."""
    m.cost -= CONTAINER
    if n is None:
        items = m.marked()
    else:
        if len(m.stack) < n:
            raise ModelError("has a damaged pickle: download the file again")
        items = m.stack[len(m.stack) - n :]
        del m.stack[len(m.stack) - n :]
    m.stack.append(tuple(items))


def list_(m: Machine, _: Any) -> None:
    """A list of the objects above the mark."""
    m.cost -= CONTAINER
    items = m.marked()
    m.stack.append(items)


def dict_(m: Machine, _: Any) -> None:
    """A dictionary of the keys and values above the mark."""
    m.cost -= CONTAINER
    items, made = m.marked(), dict[Any, Any]()
    store(m, made, items)
    m.stack.append(made)


def store(m: Machine, target: Any, items: list[Any]) -> None:
    """Keys and values, alternating, into a dictionary or its stand-in."""
    if len(items) % 2:
        raise ModelError("has a damaged pickle: download the file again")
    m.cost -= ENTRY * (len(items) // 2)
    if isinstance(target, Record):
        target.pairs = {} if target.pairs is None else target.pairs
        target = target.pairs
    if not isinstance(target, dict):
        raise ModelError("has a damaged pickle: download the file again")
    for k in range(0, len(items), 2):
        target[m.key(items[k])] = items[k + 1]


def set_item(m: Machine, _: Any) -> None:
    """One key and value into a dictionary."""
    value, key = m.stack.pop(), m.stack.pop()
    store(m, m.stack[-1], [key, value])


def set_items(m: Machine, _: Any) -> None:
    """Keys and values above the mark into a dictionary."""
    items = m.marked()
    store(m, m.stack[-1], items)


def extend(m: Machine, items: list[Any]) -> None:
    """Items at the end of a list, a set (which is a list here), or a stand-in."""
    target = m.stack[-1]
    if isinstance(target, Record):
        target.items = [] if target.items is None else target.items
        target = target.items
    if not isinstance(target, list):
        raise ModelError("has a damaged pickle: download the file again")
    target.extend(items)


def append(m: Machine, _: Any) -> None:
    """One item at the end of a list."""
    item = m.stack.pop()
    extend(m, [item])


def appends(m: Machine, _: Any) -> None:
    """Items above the mark at the end of a list."""
    items = m.marked()
    extend(m, items)


def frozen_set(m: Machine, _: Any) -> None:
    """A set, here a list, of the objects above the mark."""
    items = m.marked()
    m.stack.append(items)


def put(m: Machine, form: str) -> None:
    """The last object into the memo."""
    m.cost -= ENTRY
    if form == "line":
        integer(m, False)
        key = m.stack.pop()
    else:
        key = len(m.memo) if form == "next" else m.number(form)
    if not 0 <= key < 1 << 32:
        raise ModelError("has a damaged pickle: download the file again")
    m.memo[key] = m.stack[-1]


def get(m: Machine, form: str) -> None:
    """An object from the memo."""
    if form == "line":
        integer(m, False)
        m.stack.append(m.memo[m.stack.pop()])
    else:
        m.stack.append(m.memo[m.number(form)])


def global_(m: Machine, _: Any) -> None:
    """A class or function, by two lines."""
    module, name = m.line().decode("utf-8"), m.line().decode("utf-8")
    m.stack.append(m.name(module, name))


def stack_global(m: Machine, _: Any) -> None:
    """A class or function, by two texts on the stack."""
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m.name(module, name))


def reduce(m: Machine, _: Any) -> None:
    """A call."""
    args, what = m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(what, args))


def inst(m: Machine, _: Any) -> None:
    """A call of what two lines name with the objects above the mark."""
    module, name = m.line().decode("utf-8"), m.line().decode("utf-8")
    args = tuple(m.marked())
    m.stack.append(m.call(m.name(module, name), args))


def obj(m: Machine, _: Any) -> None:
    """A call of the first object above the mark with the others."""
    items = m.marked()
    m.stack.append(m.call(items[0], tuple(items[1:])))


def new_obj(m: Machine, with_keywords: bool) -> None:
    """A call of a class."""
    if with_keywords:
        m.stack.pop()
    args, what = m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(what, args))


def build(m: Machine, _: Any) -> None:
    """The state of an object."""
    state = m.stack.pop()
    target = m.stack[-1]
    if isinstance(target, Record):
        target.state = state


def persistent_line(m: Machine, _: Any) -> None:
    """An object outside of the pickle, by a line."""
    find(m, decoded(m.line()))


def persistent_stack(m: Machine, _: Any) -> None:
    """An object outside of the pickle, by an object."""
    find(m, m.stack.pop())


def find(m: Machine, key: Any) -> None:
    """The object of a persistent id, which lies outside of the pickle."""
    if m.persistent is None:
        raise ModelError("refers to weights that lie outside of this file: give the whole file that torch.save wrote")
    m.cost -= CONTAINER
    m.stack.append(m.persistent(key))


def ignored(m: Machine, n: int) -> None:
    """Bytes without meaning here."""
    m.take(n)


def refused(m: Machine, what: str) -> None:
    """Raises ModelError."""
    raise ModelError(f"has {what} in its pickle: damaged, or not a model")


Opcode = tuple[Callable[[Machine, Any], None] | None, Any]
OPCODES: list[Opcode] = [(refused, f"the unknown opcode {code:#04x}") for code in range(256)]
for _code, _line in {
    b".": (None, None),
    b"(": (mark, None),
    b"0": (pop, None),
    b"1": (pop_mark, None),
    b"2": (dup, None),
    b"N": (push, None),
    b"\x88": (push, True),
    b"\x89": (push, False),
    b")": (push, ()),
    b"]": (push_new, list),
    b"}": (push_new, dict),
    b"\x8f": (push_new, list),
    b"I": (integer, False),
    b"L": (integer, True),
    b"J": (push_number, "<i"),
    b"K": (push_number, "<B"),
    b"M": (push_number, "<H"),
    b"G": (push_number, ">d"),
    b"F": (float_text, None),
    b"\x8a": (long_bytes, "<B"),
    b"\x8b": (long_bytes, "<i"),
    b"S": (quoted, None),
    b"T": (old_string, "<i"),
    b"U": (old_string, "<B"),
    b"V": (unicode_line, None),
    b"X": (unicode_, "<I"),
    b"\x8c": (unicode_, "<B"),
    b"\x8d": (unicode_, "<Q"),
    b"B": (bytes_, "<I"),
    b"C": (bytes_, "<B"),
    b"\x8e": (bytes_, "<Q"),
    b"\x96": (bytes_, "<Q"),
    b"t": (tuple_, None),
    b"\x85": (tuple_, 1),
    b"\x86": (tuple_, 2),
    b"\x87": (tuple_, 3),
    b"l": (list_, None),
    b"d": (dict_, None),
    b"s": (set_item, None),
    b"u": (set_items, None),
    b"a": (append, None),
    b"e": (appends, None),
    b"\x90": (appends, None),
    b"\x91": (frozen_set, None),
    b"p": (put, "line"),
    b"q": (put, "<B"),
    b"r": (put, "<I"),
    b"\x94": (put, "next"),
    b"g": (get, "line"),
    b"h": (get, "<B"),
    b"j": (get, "<I"),
    b"c": (global_, None),
    b"\x93": (stack_global, None),
    b"R": (reduce, None),
    b"i": (inst, None),
    b"o": (obj, None),
    b"\x81": (new_obj, False),
    b"\x92": (new_obj, True),
    b"b": (build, None),
    b"P": (persistent_line, None),
    b"Q": (persistent_stack, None),
    b"\x80": (ignored, 1),
    b"\x95": (ignored, 8),
    b"\x82": (refused, "an extension code"),
    b"\x83": (refused, "an extension code"),
    b"\x84": (refused, "an extension code"),
    b"\x97": (refused, "an out-of-band buffer"),
    b"\x98": (refused, "an out-of-band buffer"),
}.items():
    OPCODES[_code[0]] = _line
