"""Makes a region behave as a bytearray of fixed length: indexes, slices, search, comparison.

Long ranges are read and written in parts; a concurrent write by another thread may show in some parts only.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    NamedTuple,
    NoReturn,
    SupportsIndex,
    TypeAlias,
    cast,
    overload,
)

from lib_usm.arguments import byte, content, counted, kind_of, shown, whole
from lib_usm.errors import InvalidArgument, OutOfRange, WrongType

if TYPE_CHECKING:
    from typing_extensions import Buffer

Sought: TypeAlias = "Buffer | SupportsIndex"
"""Bytes, or one byte as a number."""
Bound: TypeAlias = "SupportsIndex | None"

_PART_BYTES: Final = 1 << 18
_RESIZES: Final = frozenset({"append", "clear", "extend", "insert", "pop", "remove"})


class Strided(NamedTuple):
    """The `n` bytes at `start`, `start + step`, ...; `step` is at least 1.

    `reverse`: the slice has the last byte first.
    """

    start: int
    step: int
    n: int
    reverse: bool

    @property
    def stop(self) -> int:
        """The offset behind the last byte."""
        return self.start + (self.n - 1) * self.step + 1 if self.n else self.start


class ByteSequence(ABC):
    """Bytes 0 to `len` - 1, which `read` and `write` copy. It is not hashable, as a bytearray is not."""

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as Python marks unhashable types

    @property
    @abstractmethod
    def closed(self) -> bool:
        """True if the bytes are gone."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, offset: int, n: int) -> bytes:
        """Return `n` bytes from `offset`."""

    @abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Store `data` at `offset`."""

    @abstractmethod
    def _write_strided(self, place: Strided, data: memoryview) -> None:
        """Store `data`, one byte at each position, in ascending order."""

    # Indexes and slices

    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    def __getitem__(self, key: slice | SupportsIndex) -> bytes | int:
        if not isinstance(key, slice):
            return self.read(self._index(key), 1)[0]
        place = self._place(key)
        if place.step == 1:
            data = self.read(place.start, place.n)
        else:
            data = b"".join(self._parts_of(place))
        return data[::-1] if place.reverse else data

    @overload
    def __setitem__(self, key: slice, value: Buffer | Iterable[SupportsIndex]) -> None: ...
    @overload
    def __setitem__(self, key: SupportsIndex, value: SupportsIndex) -> None: ...
    def __setitem__(self, key: slice | SupportsIndex, value: Buffer | Iterable[SupportsIndex] | SupportsIndex) -> None:
        if not isinstance(key, slice):
            self.write(self._index(key), bytes((byte(cast("SupportsIndex", value)),)))
            return
        place = self._place(key)
        with _replacement(value) as data:
            if len(data) != place.n:
                raise InvalidArgument(
                    f"{counted(len(data), 'byte')} cannot replace the {counted(place.n, 'byte')} at {place.start}: "
                    "a region keeps its length"
                )
            if place.reverse:
                self._write_strided(place, memoryview(bytes(data)[::-1]))
            elif place.step == 1:
                self.write(place.start, data)
            else:
                self._write_strided(place, data)

    def __delitem__(self, key: slice | SupportsIndex) -> NoReturn:
        raise WrongType("bytes of a region cannot be deleted: it keeps its length")

    def _index(self, key: SupportsIndex) -> int:
        index, length = whole(key, "index"), len(self)
        if not -length <= index < length:
            raise OutOfRange(f"index {index} lies outside the region, which has {counted(length, 'byte')}")
        return index + length if index < 0 else index

    def _place(self, key: slice) -> Strided:
        """The bytes of a slice. Raises WrongType and InvalidArgument."""
        try:
            start, stop, step = key.indices(len(self))
        except TypeError:
            raise WrongType(f"{shown(key)} is not a slice of integers") from None
        except ValueError as error:
            raise InvalidArgument(f"{shown(key)}: {error}") from None
        if step == 1:  # the usual case, in half the time
            return Strided(start, 1, stop - start if stop > start else 0, False)
        positions = range(start, stop, step)
        count = len(positions)
        if step < 0:
            return Strided(positions[-1] if count else 0, -step, count, reverse=True)
        return Strided(start, step, count, reverse=False)

    def _parts_of(self, place: Strided) -> Iterator[bytes]:
        """The bytes at these positions, ascending, in parts."""
        if place.step >= _PART_BYTES:
            for index in range(place.n):
                yield self.read(place.start + index * place.step, 1)
            return
        whole_steps = _PART_BYTES // place.step * place.step
        for start in range(place.start, place.stop, whole_steps):
            yield self.read(start, min(whole_steps, place.stop - start))[:: place.step]

    # All of it

    def __iter__(self) -> Iterator[int]:
        # Python's default iteration would ask the daemon for each byte.
        for start in range(0, len(self), _PART_BYTES):
            yield from self.read(start, min(_PART_BYTES, len(self) - start))

    def __reversed__(self) -> Iterator[int]:
        for stop in range(len(self), 0, -_PART_BYTES):
            start = max(0, stop - _PART_BYTES)
            yield from reversed(self.read(start, stop - start))

    def __bytes__(self) -> bytes:
        return self.read(0, len(self))

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if isinstance(other, ByteSequence):
            if self.closed or other.closed:
                return False  # like released memoryviews, which compare unequal
            return self._equals(len(other), other.read)
        try:
            view = content(cast("Buffer", other))
        except InvalidArgument:
            return NotImplemented
        with view:
            return self._equals(len(view), lambda start, n: view[start : start + n])

    def _equals(self, length: int, read: Callable[[int, int], object]) -> bool:
        return len(self) == length and all(
            self.read(start, min(_PART_BYTES, length - start)) == read(start, min(_PART_BYTES, length - start))
            for start in range(0, length, _PART_BYTES)
        )

    # Search

    def __contains__(self, item: object) -> bool:
        return self.find(cast("Buffer", item)) >= 0

    def find(self, sub: Sought, start: Bound = None, end: Bound = None) -> int:
        """Offset of the first occurrence of `sub` (bytes or one byte) in [start, end), else -1, as bytearray.find."""
        needle = _needle(sub)
        position, limit = self._span(start, end)
        while position + len(needle) <= limit:
            stop = min(limit, position + _PART_BYTES + len(needle) - 1)
            found = self.read(position, stop - position).find(needle)
            if found >= 0:
                return position + found
            position = stop - len(needle) + 1
        return -1

    def rfind(self, sub: Sought, start: Bound = None, end: Bound = None) -> int:
        """Offset of the last occurrence of `sub` (bytes or one byte) in [start, end), else -1, as bytearray.rfind."""
        needle = _needle(sub)
        first, stop = self._span(start, end)
        while first + len(needle) <= stop:
            position = max(first, stop - _PART_BYTES - len(needle) + 1)
            found = self.read(position, stop - position).rfind(needle)
            if found >= 0:
                return position + found
            stop = position + len(needle) - 1
        return -1

    def index(self, sub: Sought, start: Bound = None, end: Bound = None) -> int:
        """As `find`, but raises InvalidArgument if there is no occurrence."""
        return _found(self.find(sub, start, end))

    def rindex(self, sub: Sought, start: Bound = None, end: Bound = None) -> int:
        """As `rfind`, but raises InvalidArgument if there is no occurrence."""
        return _found(self.rfind(sub, start, end))

    def count(self, sub: Sought, start: Bound = None, end: Bound = None) -> int:
        """Number of occurrences of `sub` (bytes or one byte) in [start, end) that do not overlap."""
        needle = _needle(sub)
        position, limit = self._span(start, end)
        if not needle:
            return limit - position + 1 if position <= limit else 0
        total = 0
        while position + len(needle) <= limit:
            stop = min(limit, position + _PART_BYTES + len(needle) - 1)
            data = self.read(position, stop - position)
            following = 0
            while (found := data.find(needle, following)) >= 0:
                total += 1
                following = found + len(needle)
            # A match that begins in this part may end in the next one.
            position += max(following, len(data) - len(needle) + 1)
        return total

    def startswith(self, prefix: Buffer | tuple[Buffer, ...], start: Bound = None, end: Bound = None) -> bool:
        """True if the bytes of [start, end) begin with `prefix`, or with one of a tuple."""
        position, limit = self._span(start, end)
        return any(
            position + len(each) <= limit and self.read(position, len(each)) == each for each in _affixes(prefix)
        )

    def endswith(self, suffix: Buffer | tuple[Buffer, ...], start: Bound = None, end: Bound = None) -> bool:
        """True if the bytes of [start, end) end with `suffix`, or with one of a tuple."""
        position, limit = self._span(start, end)
        return any(
            position + len(each) <= limit and self.read(limit - len(each), len(each)) == each
            for each in _affixes(suffix)
        )

    def _span(self, start: Bound, end: Bound) -> tuple[int, int]:
        """First offset and end offset. If first is greater than end, not even b"" is found, as in a bytearray."""
        length = len(self)
        limit = length if end is None else whole(end, "end")
        limit = min(limit, length) if limit >= 0 else max(limit + length, 0)
        position = 0 if start is None else whole(start, "start")
        return (position if position >= 0 else max(position + length, 0)), limit

    if not TYPE_CHECKING:  # a type checker would accept every misspelt name

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - always raises
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in _RESIZES:
                text += ": a region keeps its length"
            elif not name.startswith("_") and hasattr(bytes, name):
                text += f": region[:] is bytes, which have it (region[:].{name})"
            raise AttributeError(text, name=name, obj=self)


def _needle(sub: object) -> bytes:
    """The bytes to search for: those of a buffer, or the byte with that value. Raises WrongType, InvalidArgument."""
    if isinstance(sub, ByteSequence):
        return bytes(sub)
    try:
        with content(cast("Buffer", sub), "what is looked for") as view:
            return bytes(view)
    except WrongType:
        try:
            value = operator.index(cast("SupportsIndex", sub))
        except TypeError:
            raise WrongType(f"{shown(sub)} is {kind_of(sub)}; bytes or a number of 0 to 255 are looked for") from None
    return bytes((byte(value),))


def _affixes(affix: object) -> list[bytes]:
    each = affix if isinstance(affix, tuple) else (affix,)
    return [bytes(one) if isinstance(one, ByteSequence) else bytes(content(one, "what is looked for")) for one in each]


def _found(position: int) -> int:
    if position < 0:
        raise InvalidArgument("these bytes are not in that part of the region")
    return position


def _replacement(value: object) -> memoryview:
    """The new bytes of a slice: from a buffer, a region, or numbers of 0 to 255. Raises WrongType, InvalidArgument."""
    if isinstance(value, ByteSequence):
        return memoryview(bytes(value))
    try:
        return content(cast("Buffer", value))
    except WrongType:
        if hasattr(type(value), "__index__") or not isinstance(value, Iterable) or isinstance(value, str):
            raise WrongType(
                f"a slice of a region takes bytes or numbers of 0 to 255, not {shown(value)}, {kind_of(value)}"
            ) from None
    return memoryview(bytes([byte(each) for each in value]))
