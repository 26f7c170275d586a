"""Zip archives whose members are weights: the list of members, and one member at a time, without a copy of stored ones.

Format: PKWARE's APPNOTE.TXT, with zip64; stored and deflated members.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import ModelError

MAX_MEMBERS = 1 << 17
SPARE = 32 << 20
"""Bytes that the members may unpack to however small the archive is; beyond that, `RATIO` times the archive."""
RATIO = 8
CUT = "its zip archive is not whole: the download was not finished, or the file is damaged"
ENCRYPTED = 0x41


@dataclass(frozen=True)
class Member:
    """Where a member's local header is, its bytes in the file and unpacked, how it is packed, its CRC-32 (0 where the writer left it out)."""

    name: str
    at: int
    packed: int
    size: int
    method: int
    crc: int
    flags: int


class Zip:
    """The members of an archive by name. Raises ModelError for damaged or cut archives."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.length = file.seek(0, os.SEEK_END)
        self.budget = max(SPARE, RATIO * self.length)
        self.members: dict[str, Member] = {}
        try:
            self._list()
        except struct.error:
            raise ModelError(CUT) from None

    def _bytes(self, at: int, n: int) -> bytes:
        if not (0 <= at <= self.length and 0 <= n <= self.length - at):
            raise ModelError(CUT)
        self.file.seek(at)
        data = self.file.read(n)
        if len(data) != n:
            raise ModelError(CUT)
        return data

    def _list(self) -> None:
        tail_at = max(0, self.length - 65557)
        tail = self._bytes(tail_at, self.length - tail_at)
        end = tail.rfind(b"PK\x05\x06")
        if end < 0:
            raise ModelError(CUT)
        _, _, _, members, size, start, _ = struct.unpack("<4H2IH", tail[end + 4 : end + 22])
        locator = tail_at + end - 20
        if locator >= 0 and self._bytes(locator, 4) == b"PK\x06\x07":
            (at,) = struct.unpack("<Q", self._bytes(locator + 8, 8))
            large = self._bytes(at, 56)
            if large[:4] != b"PK\x06\x06":
                raise ModelError(CUT)
            members, size, start = struct.unpack("<3Q", large[32:56])
        if members > MAX_MEMBERS:
            raise ModelError(f"its zip archive has {members} members, more than any model has")
        table, at = self._bytes(start, size), 0
        for _ in range(members):
            member, at = self._member(table, at)
            self.members[member.name] = member

    def _member(self, table: bytes, at: int) -> tuple[Member, int]:
        head = table[at : at + 46]
        if head[:4] != b"PK\x01\x02":
            raise ModelError(CUT)
        flags, method, _, _, crc, packed, size, names, extras, comments = struct.unpack("<6x2H2H3I3H", head[2:34])
        (start,) = struct.unpack("<I", head[42:46])
        name = table[at + 46 : at + 46 + names]
        extra = table[at + 46 + names : at + 46 + names + extras]
        p = 0
        while len(extra) - p >= 4:
            kind, n = struct.unpack_from("<2H", extra, p)
            if kind == 1:
                wide = iter(struct.unpack_from(f"<{min(n // 8, 3)}Q", extra, p + 4))
                size, packed, start = (next(wide, 0) if v == 0xFFFFFFFF else v for v in (size, packed, start))
            p += 4 + n
        whole = at + 46 + names + extras + comments
        return Member(name.decode("utf-8", "replace"), start, packed, size, method, crc, flags), whole

    def read(self, name: str) -> bytes:
        """A member, unpacked. Raises ModelError when it is absent, encrypted, damaged, packed in an unknown way, or unpacks to absurdly much."""
        member = self.members.get(name)
        if member is None:
            raise ModelError(f"its zip archive lacks '{name[:80]}': damaged, or packed again without all of its files")
        what = f"'{name[:80]}' in its zip archive"
        if member.flags & ENCRYPTED:
            raise ModelError(f"{what} is encrypted: unpack the archive with its password and pack it without one")
        self.budget -= member.size
        if self.budget < 0 or member.size > member.packed * 1040 + 1024:
            raise ModelError(f"{what} claims to hold {member.size} bytes, far more than the file suggests: damaged file")
        head = self._bytes(member.at, 30)
        if head[:4] != b"PK\x03\x04":
            raise ModelError(CUT)
        names, extras = struct.unpack("<2H", head[26:30])
        data = self._bytes(member.at + 30 + names + extras, member.packed)
        if member.method == 8:
            try:
                data = zlib.decompressobj(-15).decompress(data, member.size + 1)
            except zlib.error:
                raise ModelError(f"{what} is damaged: download the file again") from None
        elif member.method != 0:
            raise ModelError(f"{what} is packed with method {member.method}, which is not supported: unpack the archive and pack it with plain zip")
        if len(data) != member.size or (member.crc and zlib.crc32(data) != member.crc):
            raise ModelError(f"{what} is damaged (its length or checksum is wrong): download the file again")
        return data
