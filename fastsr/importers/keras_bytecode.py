"""What a Lambda's Python bytecode computes, read as a formula; nothing of it is unmarshalled by Python, and nothing runs.

Understood is straight-line code of CPython 3.6 to 3.13 that combines the Lambda's argument and constants by arithmetic and calls of named functions,
as `lambda x: tf.nn.depth_to_space(x * 0.5, 2)`. Anything else raises `OpaqueError`. The layouts are those of CPython's Python/marshal.c and opcode.h.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Any

MAX_CODE = 1 << 20
MAX_OBJECTS = 4096
MAX_DEPTH = 16
MAX_INSTRUCTIONS = 1024


class OpaqueError(Exception):
    """Code that is not understood. `foreign`: not even its format is."""

    def __init__(self, why: str, foreign: bool = False) -> None:
        super().__init__(why)
        self.foreign = foreign


@dataclass
class Formula:
    """A node of the formula. kind: "argument", "constant" (value), "name" (value, with dots), "call" (parts: function, arguments; keywords),
    "binary" (value: + - * / **), "negative", "list"."""

    kind: str
    value: Any = None
    parts: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()


@dataclass
class Code:
    """A code object. free: names of closure variables. new: CPython 3.11 or later. cells: variables that inner functions share."""

    arguments: int
    code: bytes
    constants: tuple[Any, ...]
    names: tuple[Any, ...]
    variables: tuple[Any, ...]
    free: tuple[Any, ...]
    cells: int
    new: bool


def formula_of(text: str, closure: Any, defaults: Any, given: Any) -> Formula:
    """The formula of a Lambda's code in base64. closure, defaults: values of its other variables; given: the Lambda's `arguments` by name."""
    try:
        data = base64.b64decode(text[:MAX_CODE].encode("ascii", "replace"), validate=False)
    except (ValueError, binascii.Error):
        raise OpaqueError("is not in base64", foreign=True) from None
    code = None
    for longs, new in ((6, False), (5, True), (5, False)):
        try:
            code = Unmarshaller(data, longs, new).whole()
            break
        except (OpaqueError, IndexError, struct.error, UnicodeDecodeError, TypeError):
            continue
    if code is None:
        raise OpaqueError("is not code of a Python that fastsr knows", foreign=True)
    try:
        return Reader(code, closure, defaults, given).run()
    except (IndexError, KeyError, TypeError, ValueError) as e:
        raise OpaqueError(f"is not understood ({e})") from None


class Unmarshaller:
    """Reads one code object: numbers, texts and tuples; inner functions are refused."""

    def __init__(self, data: bytes, longs: int, new: bool) -> None:
        self.data, self.at, self.longs, self.new = data, 0, longs, new
        self.refs: list[Any] = []
        self.count = 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n < 0 or self.at + n > len(self.data):
            raise OpaqueError("is cut off")
        self.at += n
        return self.data[self.at - n : self.at]

    def long(self) -> int:
        """A number of four bytes."""
        return int(struct.unpack("<i", self.take(4))[0])

    def whole(self) -> Code:
        """The code object that the data consists of."""
        if self.take(1)[0] & 0x7F != ord("c"):
            raise OpaqueError("is not code")
        self.refs.append(None)
        numbers = [self.long() for _ in range(self.longs)]
        code, constants, names, variables = (self.value(0) for _ in range(4))
        if not isinstance(code, bytes) or not all(isinstance(v, tuple) for v in (constants, names, variables)):
            raise OpaqueError("is not code")
        second, third = self.value(0), self.value(0)
        if self.new:
            if not isinstance(second, bytes) or len(second) != len(variables):
                raise OpaqueError("is not code")
            free = tuple(v for v, kind in zip(variables, second, strict=True) if kind & 0x80)
            cells = sum(1 for kind in second if kind & 0x40)
        else:
            if not isinstance(second, tuple) or not isinstance(third, tuple):
                raise OpaqueError("is not code")
            free, cells = second, len(third)
        return Code(numbers[0], code, constants, names, variables, free, cells, self.new)

    def value(self, depth: int) -> Any:
        """The next object."""
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_OBJECTS:
            raise OpaqueError("is too long")
        first = self.take(1)[0]
        kind, place = chr(first & 0x7F), len(self.refs)
        if first & 0x80:
            self.refs.append(None)
        if kind in "NTF.":
            made: Any = {"N": None, "T": True, "F": False, ".": Ellipsis}[kind]
        elif kind == "i":
            made = self.long()
        elif kind == "g":
            made = struct.unpack("<d", self.take(8))[0]
        elif kind in "sutaA":
            raw = self.take(self.long())
            made = raw if kind == "s" else raw.decode("utf-8")
        elif kind in "zZ":
            made = self.take(self.take(1)[0]).decode("latin-1")
        elif kind in "()":
            n = self.take(1)[0] if kind == ")" else self.long()
            made = tuple(self.value(depth + 1) for _ in range(min(n, MAX_OBJECTS)))
        elif kind == "r":
            return self.refs[self.long()]
        else:
            raise OpaqueError("holds more than numbers and names")
        if first & 0x80:
            self.refs[place] = made
        return made


NULL = Formula("null")
"""What CPython 3.11 and later keep beside a function that is called: before it, in 3.13 behind it."""
OLD = {
    100: "const", 124: "fast", 116: "global", 106: "attribute", 160: "method", 136: "free", 131: "call", 161: "call_method", 141: "call_keywords",
    19: "**", 20: "*", 23: "+", 24: "-", 27: "/", 11: "negative", 102: "list", 103: "list", 83: "return",
}  # fmt: skip
NEW = {
    100: "const", 124: "fast", 116: "global", 106: "attribute", 160: "method", 137: "free", 171: "call", 172: "keywords", 122: "binary", 2: "null",
    11: "negative", 102: "list", 103: "list", 83: "return", 121: "return_const", 0: "skip", 149: "skip", 151: "skip", 166: "skip",
}  # fmt: skip
NEWER = {
    83: "const", 85: "fast", 88: "two", 91: "global", 82: "attribute", 84: "free", 53: "call", 57: "call_keywords", 45: "binary", 34: "null",
    42: "negative", 52: "list", 47: "list", 36: "return", 103: "return_const", 0: "skip", 62: "skip", 149: "skip",
}  # fmt: skip
BINARY = {0: "+", 5: "*", 8: "**", 10: "-", 11: "/"}


class Reader:
    """Follows the instructions of a code object with formulas on its stack."""

    def __init__(self, code: Code, closure: Any, defaults: Any, given: Any) -> None:
        self.code = code
        self.stack: list[Formula] = []
        self.null_last = False
        self.variables: dict[str, Formula] = {}
        names = [str(v) for v in code.variables[: code.arguments]]
        if not names or code.cells:
            raise OpaqueError("takes no argument, or holds functions")
        values = list(defaults) if isinstance(defaults, (list, tuple)) else []
        for name, value in zip(names[::-1], values[::-1], strict=False):
            self.variables[name] = Formula("constant", value)
        for name, value in given.items() if isinstance(given, dict) else ():
            self.variables[str(name)] = Formula("constant", value)
        self.variables[names[0]] = Formula("argument")
        for name, value in zip(code.free, closure if isinstance(closure, (list, tuple)) else (), strict=False):
            self.variables[str(name)] = Formula("constant", value)

    def variable(self, name: Any) -> Formula:
        """A local or closure variable."""
        if name not in self.variables:
            raise OpaqueError(f"uses the variable '{name}', whose value the file does not say")
        return self.variables[name]

    def pop(self, n: int) -> list[Formula]:
        """The top n of the stack."""
        if n > len(self.stack):
            raise OpaqueError("is not understood")
        found = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return found

    def run(self) -> Formula:
        """What the code returns."""
        code, keywords = self.code, ()
        if len(code.code) > 2 * MAX_INSTRUCTIONS:
            raise OpaqueError("is too long")
        pairs = list(zip(code.code[::2], code.code[1::2], strict=False))
        start = [op for op, _ in pairs[:2]]
        table = OLD
        if code.new:  # RESUME comes first, or behind COPY_FREE_VARS
            table = NEW if start[:1] == [151] or start == [149, 151] else NEWER if start[:1] == [149] or start == [62, 149] else {}
        if not table:
            raise OpaqueError("is of a Python that fastsr does not know", foreign=True)
        self.null_last = table is NEWER
        by_half = table is NEWER or (table is NEW and not any(op == 166 for op, _ in pairs))  # from 3.12 on an attribute's number is doubled
        for number, arg in pairs:
            op = table.get(number)
            if op is None:
                raise OpaqueError("does more than arithmetic and calls of functions")
            if op == "const":
                self.stack.append(Formula("constant", code.constants[arg]))
            elif op == "fast":
                self.stack.append(self.variable(code.variables[arg]))
            elif op == "two":
                self.stack += [self.variable(code.variables[arg >> 4]), self.variable(code.variables[arg & 15])]
            elif op == "free":
                self.stack.append(self.variable((code.variables if code.new else code.free)[arg]))
            elif op == "global":
                self.function(str(code.names[arg >> 1 if code.new else arg]), code.new and bool(arg & 1))
            elif op in ("attribute", "method"):
                (owner,) = self.pop(1)
                if owner.kind != "name":
                    raise OpaqueError("reads an attribute of its argument, such as its shape")
                method = op == "method" or (by_half and bool(arg & 1))
                self.function(f"{owner.value}.{code.names[arg >> 1 if by_half else arg]}", method)
            elif op == "keywords":
                keywords = code.constants[arg]
            elif op == "call_keywords":
                (names,) = self.pop(1)
                self.call(arg, names.value, with_null=code.new)
            elif op in ("call", "call_method"):
                self.call(arg, keywords, with_null=code.new or op == "call_method")
                keywords = ()
            elif op == "null":
                self.stack.append(NULL)
            elif op == "list":
                self.stack.append(Formula("list", parts=tuple(self.pop(arg))))
            elif op == "negative":
                self.stack.append(Formula("negative", parts=tuple(self.pop(1))))
            elif op == "binary":
                self.stack.append(Formula("binary", BINARY[arg % 13], tuple(self.pop(2))))
            elif op in BINARY.values():
                self.stack.append(Formula("binary", op, tuple(self.pop(2))))
            elif op == "return":
                return self.pop(1)[0]
            elif op == "return_const":
                raise OpaqueError("returns a constant")
        raise OpaqueError("returns nothing")

    def function(self, name: str, with_null: bool) -> None:
        """A function's name on the stack."""
        nulls = [NULL] if with_null else []
        self.stack += [Formula("name", name), *nulls] if self.null_last else [*nulls, Formula("name", name)]

    def call(self, n: int, keywords: Any, with_null: bool) -> None:
        """A call with n arguments, the last of which have the names `keywords`."""
        args = self.pop(n)
        function, null = self.pop(1)[0], self.pop(1)[0] if with_null else NULL
        if self.null_last:
            function, null = null, function
        if null is not NULL:
            raise OpaqueError("calls a method")
        if function.kind != "name" or not isinstance(keywords, tuple) or len(keywords) > n:
            raise OpaqueError("calls something that has no name")
        plain = n - len(keywords)
        named = tuple((str(k), a) for k, a in zip(keywords, args[plain:], strict=True))
        self.stack.append(Formula("call", function.value, tuple(args[:plain]), named))
