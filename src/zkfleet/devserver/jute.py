"""How are ZooKeeper's values spelled in bytes?

Jute, ZooKeeper's serialisation: big-endian numbers, and text, buffers and
vectors that begin with their length, -1 for none at all.  A `Reader` takes
them from a request and refuses what is cut short or impossible; the functions
make them.  What the values mean is in `requests` and `replies`.

Source: `zookeeper.jute`, `BinaryInputArchive` and `BinaryOutputArchive` of
ZooKeeper 3.8; how Java decodes UTF-8.
"""

import re
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

T = TypeVar("T")

INT = struct.Struct(">i")
LONG = struct.Struct(">q")
LONGEST = 0xFFFFF  # jute.maxbuffer, in bytes: of a packet and of all in it
NONE = INT.pack(-1)
_HALVES = struct.Struct(">2H")
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]?")
_BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")


class Malformed(Exception):
    """Bytes that spell no request."""


class AclEntry(NamedTuple):
    """One entry of an access control list: permission bits for an identity."""

    bits: int
    scheme: str
    id: str


class Reader:
    """Takes values from the front of some bytes, one after the other.

    Raises:
        Malformed: from every method, if there is no such value.
    """

    __slots__ = ("_data", "_end", "_offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data, self._offset, self._end = data, offset, len(data)

    @property
    def at_end(self) -> bool:
        """Whether everything was taken."""
        return self._offset >= self._end

    def _take(self, size: int) -> int:
        begin = self._offset
        if begin + size > self._end:
            raise Malformed(f"{size} bytes wanted at {begin} of {self._end}")
        self._offset = begin + size
        return begin

    def number(self) -> int:
        """Take 32 bits."""
        return int(INT.unpack_from(self._data, self._take(4))[0])

    def long(self) -> int:
        """Take 64 bits."""
        return int(LONG.unpack_from(self._data, self._take(8))[0])

    def flag(self) -> bool:
        """Take a byte; anything but 0 is true."""
        return self._data[self._take(1)] != 0

    def buffer(self) -> bytes | None:
        """Take some bytes; None is not the same as none of them."""
        size = self.number()
        if size == -1:
            return None
        if not 0 <= size <= LONGEST:
            raise Malformed(f"an unreasonable length: {size}")
        begin = self._take(size)
        return self._data[begin : begin + size]

    def text(self) -> str:
        """Take text; what is no UTF-8 becomes U+FFFD, which no path may hold."""
        found = self.buffer()
        if found is None:
            raise Malformed("no text at all")
        return decoded(found)

    def vector(self, take: Callable[[], T]) -> list[T]:
        """Take as many values as it says, each with `take`."""
        count = self.number()
        if count == -1:
            raise Malformed("no vector at all")
        return [take() for _ in range(count)]

    def texts(self) -> list[str]:
        """Take a vector of texts."""
        return self.vector(self.text)

    def acl(self) -> list[AclEntry]:
        """Take an access control list; one that is not there is an empty one."""
        count = self.number()
        return [AclEntry(self.number(), self.name(), self.name()) for _ in range(count)]

    def name(self) -> str:
        """Take text; none at all is the same as the empty one."""
        return decoded(self.buffer() or b"")


def decoded(data: bytes) -> str:
    """Return the text that some bytes spell; what is no UTF-8 becomes U+FFFD."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Java has one U+FFFD for a surrogate, and Python one for each of its bytes.
        return _SURROGATE.sub(b"\xff", data).decode(errors="replace")


def text(value: str) -> bytes:
    """Return the bytes of a text; as ZooKeeper does, a character beyond U+FFFF is spelled as two surrogates."""
    if not value.isascii():
        value = _BEYOND_16_BITS.sub(_in_halves, value)
    encoded = value.encode(errors="surrogatepass")
    return INT.pack(len(encoded)) + encoded


def _in_halves(found: re.Match[str]) -> str:
    return "".join(map(chr, _HALVES.unpack(found[0].encode("utf-16-be"))))


def buffer(value: bytes | None) -> bytes:
    """Return the bytes of a buffer, which may not be there."""
    return NONE if value is None else INT.pack(len(value)) + value


def texts(values: Iterable[str]) -> bytes:
    """Return the bytes of a vector of texts."""
    parts = [text(value) for value in values]
    return INT.pack(len(parts)) + b"".join(parts)


def acl(entries: Iterable[AclEntry]) -> bytes:
    """Return the bytes of an access control list."""
    parts = [INT.pack(entry.bits) + text(entry.scheme) + text(entry.id) for entry in entries]
    return INT.pack(len(parts)) + b"".join(parts)


def framed(payload: bytes) -> bytes:
    """Return a packet: its length and then itself."""
    return INT.pack(len(payload)) + payload
