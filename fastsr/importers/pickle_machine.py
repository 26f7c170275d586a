"""What reading a pickle as data makes of it: stand-ins for classes and objects, and the machine of stacks that the opcodes in pickles.py work on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ..errors import ModelError

MAX_COST = 160 << 20
"""About the bytes that the objects of one pickle may take besides its texts, which are part of the file."""
STEP, CONTAINER, ENTRY = 64, 128, 128
"""What an opcode, an object it makes, and an entry of the memo or of a dictionary cost."""

HARMLESS = frozenset(
    {"set", "frozenset", "complex", "list", "dict", "tuple", "bytearray", "bytes", "object", "slice", "range", "xrange", "int", "long", "float"}
    | {"str", "unicode", "bool", "getattr", "type", "property", "super", "Ellipsis", "enumerate", "zip", "map", "filter", "reversed"}
)
"""Builtins that appear in pickles of settings. They are not called either."""
BUILTINS = {"builtins", "__builtin__"}
CODE_MODULES = frozenset(
    {"os", "posix", "nt", "posixpath", "ntpath", "subprocess", "sys", "importlib", "imp", "runpy", "pty", "socket", "shutil", "ctypes", "webbrowser"}
    | {"pdb", "bdb", "timeit", "cProfile", "codeop", "marshal", "popen2", "pydoc", "pkgutil", "zipimport", "dill", "cloudpickle", "urllib", "urllib2"}
    | {"asyncio", "_thread"}
)
"""Packages with which a pickle runs code, reads or writes. Calls of what lies in them are refused by name; all other calls are only written down."""
CODE_NAMES = (
    {("io", "open"), ("_io", "open"), ("code", "interact"), ("types", "CodeType"), ("types", "FunctionType"), ("pip", "main")}
    | {("pickle", "loads"), ("_pickle", "loads"), ("cPickle", "loads")}
)  # fmt: skip
MAPPINGS = {("collections", "OrderedDict"), ("collections", "defaultdict"), ("collections", "Counter"), ("builtins", "dict"), ("__builtin__", "dict")}
SEQUENCES = {(m, name) for m in BUILTINS for name in ("list", "tuple", "set", "frozenset")} | {("collections", "deque"), ("torch", "Size")}


class Name:
    """A class or function that a pickle names."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    @property
    def whole(self) -> str:
        """Module and name, short enough for a message."""
        return f"{self.module}.{self.name}"[:120]


class Record:
    """What a call of `made_by` with `args` would have made; then `state` is what it would have been filled with, `items` and `pairs` what would
    have been appended to it and stored in it."""

    __slots__ = ("args", "items", "made_by", "pairs", "state")

    def __init__(self, made_by: Name | None, args: tuple[Any, ...]) -> None:
        self.made_by, self.args = made_by, args
        self.state: Any = None
        self.items: list[Any] | None = None
        self.pairs: dict[Any, Any] | None = None

    def is_a(self, *names: str) -> bool:
        """True when it was made by something of one of these names, given with their module."""
        return self.made_by is not None and f"{self.made_by.module}.{self.made_by.name}" in names


class Machine:
    """The pickle machine: a stack, a stack of stacks for marks, a memo."""

    def __init__(self, data: memoryview, at: int, persistent: Callable[[Any], Any] | None, cost: int) -> None:
        self.data, self.at, self.persistent = data, at, persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[tuple[str, str], Name] = {}
        self.cost = cost
        self.conversions = 4 * len(data) + 4096

    def take(self, n: int) -> memoryview:
        """The next n bytes."""
        if not 0 <= n <= len(self.data) - self.at:
            raise ModelError("ends in the middle of a pickle: the file is damaged or its download was not finished")
        self.at += n
        return self.data[self.at - n : self.at]

    def line(self) -> bytes:
        """Bytes up to a newline."""
        size = 256
        while True:
            piece = bytes(self.data[self.at : self.at + size])
            found = piece.find(b"\n")
            if found >= 0:
                self.at += found + 1
                return piece[:found]
            if len(piece) < size:
                raise ModelError("ends in the middle of a pickle: the file is damaged or its download was not finished")
            size *= 8

    def number(self, form: str) -> Any:
        """A number stored as struct's `form` says."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def marked(self) -> list[Any]:
        """What lies above the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def name(self, module: Any, name: Any) -> Name:
        """The stand-in of a class or function; the same for the same name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ModelError("has a damaged pickle: download the file again")
        self.cost -= (len(module) + len(name)) // 8
        found = self.names.get((module, name))
        if found is None:
            self.cost -= ENTRY
            found = self.names[module, name] = Name(module, name)
        return found

    def convert(self, n: int, each: int) -> None:
        """Account for n entries of `each` bytes that are copied; shared ones could be copied again and again."""
        self.conversions -= n
        self.cost -= n * each
        if self.conversions < 0:
            raise ModelError("has a pickle of absurdly many objects: damaged, or not a model")

    def call(self, what: Any, args: Any) -> Any:
        """The stand-in of what calling `what` would make: a container, bytes, or a Record. Raises ModelError when that would run code."""
        self.cost -= CONTAINER
        if not isinstance(args, tuple):
            raise ModelError("has a damaged pickle: download the file again")
        if not isinstance(what, Name):
            return Record(None, args)
        key = (what.module, what.name)
        root = what.module.split(".", 1)[0]
        if root in CODE_MODULES or key in CODE_NAMES or (root in BUILTINS and what.name not in HARMLESS):
            raise ModelError(f"tries to run code when it is opened (a call of {what.whole}), which fastsr never does: delete it")
        if key in MAPPINGS:
            return self.mapping(args)
        if key in SEQUENCES:
            source = args[0] if args else []
            if not isinstance(source, (list, tuple)):
                return Record(what, args)
            self.convert(len(source), 8)
            return tuple(source) if what.name in ("tuple", "Size") else list(source)
        if key == ("_codecs", "encode") and args and isinstance(args[0], str):
            self.convert(len(args[0]), 1)
            return args[0].encode("latin-1" if args[1:2] == ("latin1",) else "utf-8")
        if root in BUILTINS and what.name in ("bytearray", "bytes") and (not args or isinstance(args[0], bytes)):
            return args[0] if args else b""
        return Record(what, args)

    def mapping(self, args: tuple[Any, ...]) -> dict[Any, Any]:
        """What OrderedDict and its kin would make: from pairs, from a dictionary, or empty."""
        made: dict[Any, Any] = {}
        source = next((a for a in reversed(args) if isinstance(a, (dict, list, tuple))), ())
        self.convert(len(source), ENTRY)
        for pair in source.items() if isinstance(source, dict) else source:
            key, value = pair
            made[self.key(key)] = value
        return made

    def key(self, key: Any) -> Any:
        """`key_of`, and account for comparing it with an equal one: a long text could be compared again and again."""
        if isinstance(key, (str, bytes)):
            self.cost -= len(key) // 8
        return key_of(key)


def key_of(key: Any) -> Any:
    """A key that takes no time to hash: tuples of tuples and huge numbers are replaced by a Record, which no other key is equal to."""
    if isinstance(key, (str, bytes, float, Name, Record)) or key is None:
        return key
    if isinstance(key, int):
        return key if -(1 << 60) < key < 1 << 60 else Record(None, (key,))
    if isinstance(key, tuple) and len(key) <= 16 and all(isinstance(k, (str, int, float)) for k in key):
        return tuple(key_of(k) for k in key)
    return Record(None, (key,))
