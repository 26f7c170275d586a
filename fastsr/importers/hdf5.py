"""A reader of the part of HDF5 that Keras writes: groups, attributes, arrays of numbers; bytes in, NumPy out, nothing else.

From the HDF5 File Format Specification, version 3.0 (https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html): superblocks 0 to 3, object
headers 1 and 2, groups as symbol tables or link messages, attributes in the header, strings of fixed and variable length, contiguous, compact and
chunked arrays with the filters deflate, shuffle and fletcher32. Checksums are not verified. Every offset and size is checked before use; a file that
asks for much more work or memory than its length suggests is refused. Everything wrong raises ModelError.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ModelError

MAGIC = b"\x89HDF\r\n\x1a\n"
UNDEFINED = (1 << 64) - 1
MAX_RANK = 32
MAX_DEPTH = 64
DAMAGED = "the HDF5 file is damaged: download or copy it again"
REWRITE = "load the model in Keras and save it again"


@dataclass
class Type:
    """A datatype: `kind` "number", "string", "text" (variable length), or what it is called where it cannot be read. size: bytes of one element."""

    kind: str
    size: int
    dtype: np.dtype[Any] | None = None
    space_padded: bool = False
    bfloat16: bool = False


@dataclass
class Object:
    """A group or a dataset. links: name -> address; `shape` is None for a group."""

    file: File
    address: int
    links: dict[str, int] = field(default_factory=dict)
    messages: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def is_dataset(self) -> bool:
        return any(kind == 8 for kind, *_ in self.messages)

    def names(self) -> list[str]:
        """Names of what the group holds, in the file's order (of names)."""
        return list(self.links)

    def get(self, path: str) -> Object | None:
        """The object at a path below this one ("a/b"), None when there is none."""
        at: Object | None = self
        for name in path.split("/"):
            if name and at is not None:
                self.file.step()
                at = self.file.object(at.links[name]) if name in at.links else None
        return at

    def attributes(self) -> dict[str, Any]:
        """Attributes by name: str, number, NumPy array or list of str. Those of types that Keras does not use are left out."""
        return self.file.attributes(self)

    def shape(self) -> tuple[int, ...]:
        """The shape of a dataset."""
        return self.file.shape_of(self)

    def read(self) -> np.ndarray:
        """The numbers of a dataset, in native byte order; bfloat16 becomes float32."""
        return self.file.read(self)


class File:
    """An HDF5 file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.steps = 100_000 + len(data) // 16
        self.budget = 16 * len(data) + (64 << 20)
        self.objects: dict[int, Object] = {}
        start = next((at for at in (0, *(512 << k for k in range(20))) if data[at : at + 8] == MAGIC), None)
        if start is None:
            raise ModelError("this is not an HDF5 file")
        version = self.number(start + 8, 1)
        if version > 3:
            raise ModelError(f"the HDF5 file has a superblock of version {version}, which fastsr does not know: {REWRITE}")
        at = start + 13 if version < 2 else start + 9
        self.offset, self.length = self.number(at, 1), self.number(at + 1, 1)
        if self.offset not in (4, 8) or self.length not in (4, 8):
            raise ModelError(DAMAGED)
        at = start + (12 if version >= 2 else 24 if version == 0 else 28)
        self.base = self.number(at, self.offset)
        if self.base != start:
            self.base = 0 if self.base > len(data) else self.base
        end = self.number(at + 2 * self.offset, self.offset)
        if self.base + end > len(data):
            raise ModelError(f"the HDF5 file should have {self.base + end} bytes but has {len(data)}: the download was not finished, repeat it")
        at += 3 * self.offset if version >= 2 else 4 * self.offset + self.offset
        self.root = self.object(self.number(at, self.offset))

    # ---- bytes -------------------------------------------------------------------------------------------------------------------------------

    def step(self, n: int = 1) -> None:
        """Account for work. Raises ModelError when a file asks for absurdly much."""
        self.steps -= n
        if self.steps < 0:
            raise ModelError(f"the HDF5 file refers to itself or to far more than it holds; {DAMAGED}")

    def spend(self, nbytes: int) -> None:
        """Account for memory. Raises ModelError when a file asks for absurdly much."""
        self.budget -= nbytes
        if self.budget < 0:
            raise ModelError(f"asks for far more memory than its file suggests; {DAMAGED}")

    def piece(self, at: int, n: int) -> bytes:
        """n bytes at an absolute position."""
        if at < 0 or n < 0 or at + n > len(self.data):
            raise ModelError(DAMAGED)
        return self.data[at : at + n]

    def number(self, at: int, n: int) -> int:
        """A little-endian number of n bytes; an undefined address is UNDEFINED."""
        value = int.from_bytes(self.piece(at, n), "little")
        return UNDEFINED if n in (4, 8) and value == (1 << 8 * n) - 1 and n == getattr(self, "offset", 0) else value

    def place(self, address: int) -> int:
        """Absolute position of an address."""
        if address >= len(self.data):
            raise ModelError(DAMAGED)
        return self.base + address

    def expect(self, at: int, signature: bytes) -> None:
        """Check the four letters that begin a structure."""
        if self.piece(at, 4) != signature:
            raise ModelError(DAMAGED)

    # ---- object headers ----------------------------------------------------------------------------------------------------------------------

    def object(self, address: int) -> Object:
        """The object whose header is at that address."""
        if address not in self.objects:
            found = self.objects[address] = Object(self, address)
            found.messages = self._messages(self.place(address))
            for kind, flags, at, size in found.messages:
                if kind == 0x11:
                    self._symbol_table(found.links, self.number(at, self.offset), self.number(at + self.offset, self.offset))
                elif kind == 0x06 and not flags & 2:
                    self._link(found.links, at, size)
                elif kind == 0x02 and self.number(at + 2 + 8 * (self.number(at + 1, 1) & 1), self.offset) != UNDEFINED:
                    raise ModelError(f"a group lies in a form of HDF5 (dense links) that fastsr does not read: {REWRITE}")
        return self.objects[address]

    def _messages(self, at: int) -> list[tuple[int, int, int, int]]:
        """(kind, flags, position, size) of every message of the header at an absolute position."""
        new = self.piece(at, 4) == b"OHDR"
        if new:
            flags = self.number(at + 5, 1)
            start = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks = [(start + width, self.number(start, width))]
            head = 6 if flags & 4 else 4
        else:
            if self.number(at, 1) != 1:
                raise ModelError(DAMAGED)
            blocks, head = [(at + 16, self.number(at + 8, 4))], 8
        found: list[tuple[int, int, int, int]] = []
        for start, size in blocks:
            self.step()
            self.piece(start, size)
            p, end = start, start + size
            while p + head <= end:
                self.step()
                kind = self.number(p, 1 if new else 2)
                size = self.number(p + (1 if new else 2), 2)
                flags = self.number(p + (3 if new else 4), 1)
                p += head
                if p + size > end:
                    raise ModelError(DAMAGED)
                if kind == 0x10:
                    next_at, next_size = self.place(self.number(p, self.offset)), self.number(p + self.offset, self.length)
                    if new:
                        self.expect(next_at, b"OCHK")
                        next_at, next_size = next_at + 4, next_size - 8
                    blocks.append((next_at, next_size))
                elif kind:
                    found.append((kind, flags, p, size))
                p += size
        return found

    # ---- groups ------------------------------------------------------------------------------------------------------------------------------

    def _link(self, links: dict[str, int], at: int, size: int) -> None:
        """A link message; soft and external links are left out."""
        flags, p = self.number(at + 1, 1), at + 2
        kind = self.number(p, 1) if flags & 8 else 0
        p += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        n = self.number(p, width)
        if p + width + n + self.offset > at + size and kind == 0:
            raise ModelError(DAMAGED)
        if kind == 0:
            self.spend(n)
            links[self.piece(p + width, n).decode("utf-8", "replace")] = self.number(p + width + n, self.offset)

    def _symbol_table(self, links: dict[str, int], tree: int, heap: int) -> None:
        """The links of a group of the old kind: a B-tree of symbol nodes, and their names in a local heap."""
        at = self.place(heap)
        self.expect(at, b"HEAP")
        size, names = self.number(at + 8, self.length), self.place(self.number(at + 8 + 2 * self.length, self.offset))
        self.piece(names, size)
        for _, leaf in self._tree(tree, 0, self.length):
            at = self.place(leaf)
            self.expect(at, b"SNOD")
            entry = 2 * self.offset + 24
            for k in range(self.number(at + 6, 2)):
                self.step()
                p = at + 8 + k * entry
                name = self.number(p, self.offset)
                if self.number(p + 2 * self.offset, 4) == 2:
                    continue
                stop = self.data.find(b"\0", names + name, names + size)
                if name >= size or stop < 0:
                    raise ModelError(DAMAGED)
                self.spend(stop - names - name)
                links[self.data[names + name : stop].decode("utf-8", "replace")] = self.number(p + self.offset, self.offset)

    def _tree(self, address: int, kind: int, key: int) -> list[tuple[int, int]]:
        """(position of the key, child's address) of every leaf entry of a B-tree of version 1."""
        found: list[tuple[int, int]] = []
        if address == UNDEFINED:
            return found
        waiting = [(address, -1)]
        while waiting:
            address, above = waiting.pop()
            at = self.place(address)
            self.expect(at, b"TREE")
            level, n = self.number(at + 5, 1), self.number(at + 6, 2)
            if self.number(at + 4, 1) != kind or (above >= 0 and level != above - 1):
                raise ModelError(DAMAGED)
            self.step(n + 1)
            p = at + 8 + 2 * self.offset
            entries = [(p + k * (key + self.offset), self.number(p + k * (key + self.offset) + key, self.offset)) for k in range(n)]
            if level:
                waiting += [(child, level) for _, child in reversed(entries)]
            else:
                found += entries
        return found

    # ---- types and attributes ----------------------------------------------------------------------------------------------------------------

    def _dims(self, at: int) -> tuple[int, ...] | None:
        """The shape in a dataspace message; None for no data at all."""
        version, rank = self.number(at, 1), self.number(at + 1, 1)
        if version not in (1, 2) or rank > MAX_RANK:
            raise ModelError(DAMAGED)
        if version == 2 and self.number(at + 3, 1) == 2:
            return None
        at += 8 if version == 1 else 4
        return tuple(self.number_plain(at + k * self.length, self.length) for k in range(rank))

    def number_plain(self, at: int, n: int) -> int:
        """A little-endian number of n bytes, whatever its value."""
        return int.from_bytes(self.piece(at, n), "little")

    def _type(self, at: int) -> Type:
        """A datatype message."""
        first, bits, size = self.number(at, 1), self.number_plain(at + 1, 3), self.number_plain(at + 4, 4)
        kind = first & 15
        if kind == 8:  # an enumeration, h5py's bool: its numbers
            return self._type(at + 8) if self.number(at + 8, 1) & 15 == 0 else Type("enumeration", size)
        order = ">" if bits & 1 else "<"
        if kind == 0 and size in (1, 2, 4, 8):
            return Type("number", size, np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}"))
        if kind == 1 and size in (2, 4, 8) and not bits & 0x40:
            exponent = self.number(at + 13, 1)
            if exponent == {2: 5, 4: 8, 8: 11}[size]:
                return Type("number", size, np.dtype(f"{order}f{size}"))
            return Type("number", size, np.dtype(f"{order}u2"), bfloat16=True) if (size, exponent) == (2, 8) else Type("unusual floats", size)
        if kind == 3:
            return Type("string", size, space_padded=bits & 15 == 2)
        if kind == 5 and size == 2:
            return Type("number", size, np.dtype("<u2"), bfloat16=True)
        if kind == 9 and bits & 15 == 1:
            return Type("text", size)
        names = {2: "times", 4: "bits", 5: "opaque bytes", 6: "structures", 7: "references", 9: "lists of varying length", 10: "arrays"}
        return Type(names.get(kind, "an unknown type"), size)

    def attributes(self, owner: Object) -> dict[str, Any]:
        """See `Object.attributes`."""
        found: dict[str, Any] = {}
        for kind, flags, at, size in owner.messages:
            if kind == 0x15:
                where = at + 2 + (2 if self.number(at + 1, 1) & 1 else 0)
                if self.number(where, self.offset) != UNDEFINED:
                    raise ModelError(f"attributes lie in a form of HDF5 (dense storage) that fastsr does not read: {REWRITE}")
            if kind != 0x0C or flags & 2:
                continue
            self.step()
            version = self.number(at, 1)
            if version not in (1, 2, 3) or (version > 1 and self.number(at + 1, 1) & 3):
                continue
            sizes = [self.number(at + 2 + 2 * k, 2) for k in range(3)]
            parts, p = [], at + (9 if version == 3 else 8)
            for n in sizes:
                parts.append(p)
                p += -(-n // 8) * 8 if version == 1 else n
            if p > at + size:
                raise ModelError(DAMAGED)
            self.spend(sizes[0])
            name = self.piece(parts[0], sizes[0]).split(b"\0", 1)[0].decode("utf-8", "replace")
            value = self._attribute(self._type(parts[1]), self._dims(parts[2]), p, at + size)
            if value is not None:
                found[name] = value
        return found

    def _attribute(self, t: Type, dims: tuple[int, ...] | None, at: int, end: int) -> Any:
        if dims is None or t.kind not in ("number", "string", "text") or t.size == 0:
            return None
        n = math.prod(dims)
        if at + n * t.size > end:
            raise ModelError(DAMAGED)
        self.step(n)
        self.spend(n * t.size)
        if t.kind == "number":
            array = np.frombuffer(self.piece(at, n * t.size), t.dtype).reshape(dims)
            return array if dims else array.reshape(())[()]
        if t.kind == "string":
            texts = [self.piece(at + k * t.size, t.size).split(b"\0", 1)[0] for k in range(n)]
            texts = [s.rstrip(b" ") if t.space_padded else s for s in texts]
        else:
            if t.size != 8 + self.offset:
                raise ModelError(DAMAGED)
            texts = [self._heap_object(p, self.number_plain(p, 4)) for p in range(at, at + n * t.size, t.size)]
        out = [s.decode("utf-8", "replace") for s in texts]
        return out if dims else out[0]

    def _heap_object(self, at: int, size: int) -> bytes:
        """Bytes of a variable-length value: its size, a global heap's address, an object's number."""
        address, index = self.number(at + 4, self.offset), self.number_plain(at + 4 + self.offset, 4)
        if size == 0 or address == UNDEFINED:
            return b""
        start = self.place(address)
        self.expect(start, b"GCOL")
        p, end = start + 8 + self.length, start + self.number(start + 8, self.length)
        while p + 8 + self.length <= min(end, len(self.data)):
            self.step()
            number, n = self.number_plain(p, 2), self.number_plain(p + 8, self.length)
            p += 8 + self.length
            if number == index:
                self.spend(size)
                if size > n:
                    break
                return self.piece(p, size)
            if number == 0:
                break
            p += -(-n // 8) * 8
        raise ModelError(DAMAGED)

    # ---- arrays ------------------------------------------------------------------------------------------------------------------------------

    def _message(self, owner: Object, kind: int, what: str) -> tuple[int, int]:
        for k, flags, at, size in owner.messages:
            if k == kind:
                if flags & 2:
                    raise ModelError(f"an array's {what} lies elsewhere in the HDF5 file, which fastsr does not read: {REWRITE}")
                return at, size
        raise ModelError(f"an array has no {what}; {DAMAGED}")

    def shape_of(self, owner: Object) -> tuple[int, ...]:
        """See `Object.shape`."""
        dims = self._dims(self._message(owner, 1, "shape")[0])
        if dims is None or any(d > 1 << 40 for d in dims):
            raise ModelError(f"an array has no data or an absurd shape; {DAMAGED}")
        return dims

    def read(self, owner: Object) -> np.ndarray:
        """See `Object.read`."""
        shape, t = self.shape_of(owner), self._type(self._message(owner, 3, "type")[0])
        if t.kind != "number" or t.dtype is None:
            raise ModelError(f"an array holds {t.kind}, not numbers")
        self.spend(math.prod(shape) * t.size)
        raw = self._raw(owner, shape, t)
        if t.bfloat16:
            self.spend(4 * raw.size)
            return (raw.astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return raw.astype(raw.dtype.newbyteorder("="), copy=False).reshape(shape)

    def _raw(self, owner: Object, shape: tuple[int, ...], t: Type) -> np.ndarray:
        at, size = self._message(owner, 8, "layout")
        version, nbytes = self.number(at, 1), math.prod(shape) * t.size
        if any(kind == 7 for kind, *_ in owner.messages):
            raise ModelError("an array lies in another file, which fastsr does not read")
        if version in (1, 2):
            rank, layout = self.number(at + 1, 1), self.number(at + 2, 1)
            p = at + 8
            if layout == 0:
                return np.frombuffer(self.piece(p + 4 * rank + 4, nbytes), t.dtype)
            chunk = [self.number_plain(p + self.offset + 4 * k, 4) for k in range(rank)]
            return self._stored(owner, layout, self.number(p, self.offset), nbytes, chunk, shape, t)
        if version in (3, 4):
            layout = self.number(at + 1, 1)
            if layout == 0:
                if self.number(at + 2, 2) < nbytes or 4 + nbytes > size:
                    raise ModelError(DAMAGED)
                return np.frombuffer(self.piece(at + 4, nbytes), t.dtype)
            if layout == 1:
                return self._stored(owner, layout, self.number(at + 2, self.offset), nbytes, [], shape, t)
            if layout == 2 and version == 3:
                rank = self.number(at + 2, 1)
                chunk = [self.number_plain(at + 3 + self.offset + 4 * k, 4) for k in range(rank)]
                return self._stored(owner, layout, self.number(at + 3, self.offset), nbytes, chunk, shape, t)
        raise ModelError(f"an array lies in a form of HDF5 (layout {version}) that fastsr does not read: {REWRITE}")

    def _stored(self, owner: Object, layout: int, address: int, nbytes: int, chunk: list[int], shape: tuple[int, ...], t: Type) -> np.ndarray:
        if layout == 1:
            if address == UNDEFINED or nbytes == 0:
                self.spend(nbytes)
                return np.zeros(nbytes // t.size, t.dtype)
            return np.frombuffer(self.piece(self.place(address), nbytes), t.dtype)
        if layout != 2 or len(chunk) not in (len(shape), len(shape) + 1) or not shape:
            raise ModelError(DAMAGED)
        chunk = chunk[: len(shape)]
        if 0 in chunk:
            raise ModelError(DAMAGED)
        self.spend(nbytes)
        out = np.zeros(shape, t.dtype)
        filters = self._filters(owner)
        whole = math.prod(chunk) * t.size
        for key, child in self._tree(address, 1, 8 + 8 * (len(shape) + 1)):
            n, mask = self.number_plain(key, 4), self.number_plain(key + 4, 4)
            corner = [self.number_plain(key + 8 + 8 * k, 8) for k in range(len(shape))]
            self.spend(whole)
            self.step(1 + whole // 1024)
            piece = self._unfiltered(self.piece(self.place(child), n), [f for k, f in enumerate(filters) if not mask >> k & 1], whole)
            if len(piece) != whole:
                raise ModelError(DAMAGED)
            block = np.frombuffer(piece, t.dtype).reshape(chunk)
            room = [min(c, max(s - p, 0)) for c, s, p in zip(chunk, shape, corner, strict=True)]
            if 0 not in room:
                out[tuple(slice(p, p + r) for p, r in zip(corner, room, strict=True))] = block[tuple(slice(r) for r in room)]
        return out.reshape(-1)

    def _filters(self, owner: Object) -> list[tuple[int, int]]:
        """(filter, its first parameter) in the order in which they were applied."""
        found = []
        for kind, _, at, size in owner.messages:
            if kind != 0x0B:
                continue
            version, n = self.number(at, 1), self.number(at + 1, 1)
            p = at + (8 if version == 1 else 2)
            for _ in range(n):
                self.step()
                code = self.number_plain(p, 2)
                named = version == 1 or code >= 256
                name = self.number_plain(p + 2, 2) if named else 0
                params = self.number_plain(p + (6 if named else 4), 2)
                p += (8 if named else 6) + (-(-name // 8) * 8 if version == 1 else name)
                if p + 4 * params > at + size:
                    raise ModelError(DAMAGED)
                if code not in (1, 2, 3):
                    raise ModelError(f"an array is compressed by a filter (number {code}) that fastsr does not have: {REWRITE}")
                found.append((code, self.number_plain(p, 4) if params else 0))
                p += 4 * (params + (params % 2 if version == 1 else 0))
        return found

    def _unfiltered(self, piece: bytes, filters: list[tuple[int, int]], whole: int) -> bytes:
        for code, parameter in reversed(filters):
            if code == 3:
                piece = piece[:-4]
            elif code == 1:
                try:
                    piece = zlib.decompressobj().decompress(piece, whole + 4)
                except (zlib.error, struct.error) as e:
                    raise ModelError(f"an array cannot be decompressed ({e}); {DAMAGED}") from None
            elif 1 < parameter <= 64 and len(piece) % parameter == 0:
                piece = np.frombuffer(piece, np.uint8).reshape(parameter, -1).T.tobytes()
        return piece
