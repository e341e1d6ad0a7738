"""Doubly linked lists of frames for policies, kept in arrays that all lists share.

A frame is in at most one list at a time, so it costs 12 bytes, however many policies and lists there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final
from weakref import WeakValueDictionary

from mypy_extensions import mypyc_attr

from usmd.core.columns import all_zero, column, count_up, fill

_NONE: Final = -1


class FrameLinks:
    """The shared arrays: previous frame, following frame, and the number of the list that a frame is in (0: none).

    `previous` of a list's first frame and `following` of its last one say nothing: a list knows its ends.
    """

    __slots__ = ("_list_numbers", "_lists", "following", "owner", "previous")

    def __init__(self, count: int) -> None:
        self.previous = column(count)
        self.following = column(count)
        self.owner = column(count)
        self._list_numbers = 0
        self._lists: WeakValueDictionary[int, _Holder] = WeakValueDictionary()
        """By number. A list is kept by the policy that uses it, and not by this."""

    def new_list(self) -> FrameList:
        """An empty list over these arrays."""
        self._list_numbers += 1
        made = FrameList(self, self._list_numbers)
        self._lists[self._list_numbers] = made.holder
        return made

    def in_no_list(self, frames: range) -> bool:
        """Whether none of these frames, which follow each other, is in a list."""
        return all_zero(self.owner, frames.start, frames.stop)

    def release(self, pfn: int) -> None:
        """Take a frame out of its list, if it is in one: a policy that forgot it there harms no other policy."""
        holder = self._lists.get(self.owner[pfn])
        if holder is None:
            self.owner[pfn] = 0  # its list is gone
        else:
            holder.frames.remove(pfn)


@mypyc_attr(native_class=False)  # weak references to a native class are not possible
class _Holder:
    """What a weak reference to a list refers to: the list keeps it, and it the list."""

    __slots__ = ("__weakref__", "frames")

    def __init__(self, frames: FrameList) -> None:
        self.frames = frames


class FrameList:
    """Frames in an order that a policy chooses. Every operation but iteration is O(1).

    A call with a frame of another list raises ValueError and changes nothing, so a policy cannot harm other lists.
    """

    __slots__ = ("_following", "_last", "_number", "_owner", "_previous", "head", "holder", "length")

    def __init__(self, links: FrameLinks, number: int) -> None:
        self._owner = links.owner
        self._previous = links.previous
        self._following = links.following
        self._number = number
        self.head = _NONE
        """The first frame, or -1; to read on the hot path."""
        self.length = 0
        """How many frames; to read on the hot path."""
        self._last = _NONE
        self.holder = _Holder(self)

    def __len__(self) -> int:
        return self.length

    def __contains__(self, pfn: int) -> bool:
        return self._owner[pfn] == self._number

    def __iter__(self) -> Iterator[int]:
        """From first to last. The caller may remove or move the frame that it got before it asks for the next."""
        following = self._following
        pfn = self.head
        while pfn != _NONE:
            after = _NONE if pfn == self._last else following[pfn]
            yield pfn
            pfn = after

    def __reversed__(self) -> Iterator[int]:
        """From last to first. The caller may remove or move the frame that it got before it asks for the next."""
        previous = self._previous
        pfn = self._last
        while pfn != _NONE:
            before = _NONE if pfn == self.head else previous[pfn]
            yield pfn
            pfn = before

    @property
    def first(self) -> int | None:
        """The first frame, or None."""
        return None if self.head == _NONE else self.head

    def first_besides(self, passed: Collection[int]) -> int | None:
        """The first frame that is not in `passed`, or None. Moves the frames before it to the end."""
        pfn = self.head_besides(passed)
        return None if pfn == _NONE else pfn

    def head_besides(self, passed: Collection[int]) -> int:
        """As `first_besides`, but -1 for none."""
        for _ in range(self.length):
            pfn = self.head
            if pfn not in passed:
                return pfn
            self.move_to_end(pfn)
        return _NONE

    def after(self, pfn: int) -> int | None:
        """The frame after `pfn`, or None if `pfn` is the last; raises ValueError if `pfn` is not in this list."""
        if self._owner[pfn] != self._number:
            raise ValueError(f"frame {pfn} is not in this list")
        return None if pfn == self._last else self._following[pfn]

    def append(self, pfn: int) -> None:
        """Put a frame of no list at the end; raises ValueError if it is in a list."""
        owner = self._owner
        if owner[pfn]:
            raise ValueError(f"frame {pfn} is in list {owner[pfn]} already")
        owner[pfn] = self._number
        last = self._last
        if last == _NONE:
            self.head = pfn
        else:
            self._previous[pfn] = last
            self._following[last] = pfn
        self._last = pfn
        self.length += 1

    def extend(self, frames: range) -> None:
        """Put frames of no list, which follow each other, at the end in this order; raises ValueError as `append`."""
        first, end, owner = frames.start, frames.stop, self._owner
        count = end - first
        if not all_zero(owner, first, end):
            raise ValueError(f"of frames {first} to {end - 1} some are in a list already")
        fill(owner, first, end, self._number)
        last = self._last
        if last == _NONE:
            self.head = first
        else:
            self._previous[first] = last
            self._following[last] = first
        count_up(self._previous, first + 1, end, first)
        count_up(self._following, first, end - 1, first + 1)
        self._last = end - 1
        self.length += count

    def remove(self, pfn: int) -> None:
        """Take a frame out; raises ValueError if it is not in this list."""
        owner = self._owner
        if owner[pfn] != self._number:
            raise ValueError(f"frame {pfn} is not in this list")
        owner[pfn] = 0
        self.length -= 1
        if pfn == self.head:
            if pfn == self._last:
                self.head = self._last = _NONE
            else:
                self.head = self._following[pfn]
        elif pfn == self._last:
            self._last = self._previous[pfn]
        else:
            before: int = self._previous[pfn]
            after: int = self._following[pfn]
            self._following[before] = after
            self._previous[after] = before

    def discard(self, pfn: int) -> bool:
        """Take a frame out if it is in this list; returns whether it was."""
        if self._owner[pfn] != self._number:
            return False
        self.remove(pfn)
        return True

    def move_to_end(self, pfn: int) -> None:
        """Make a frame of this list its last; raises ValueError if it is not in this list."""
        last = self._last
        if pfn == last and self.length:
            return
        if self._owner[pfn] != self._number:
            raise ValueError(f"frame {pfn} is not in this list")
        previous, following = self._previous, self._following
        after: int = following[pfn]
        if pfn == self.head:
            self.head = after
        else:
            before: int = previous[pfn]
            following[before] = after
            previous[after] = before
        following[last] = pfn
        previous[pfn] = last
        self._last = pfn

    def move_all_to_end(self, frames: list[int]) -> None:
        """As `move_to_end` for each of these frames, in this order, up to the first that is not in this list."""
        owner, number = self._owner, self._number
        previous, following = self._previous, self._following
        head, last = self.head, self._last
        try:
            for pfn in frames:
                if pfn == last and pfn != _NONE:
                    continue
                if owner[pfn] != number:
                    raise ValueError(f"frame {pfn} is not in this list")
                after: int = following[pfn]
                if pfn == head:
                    head = after
                else:
                    before: int = previous[pfn]
                    following[before] = after
                    previous[after] = before
                following[last] = pfn
                previous[pfn] = last
                last = pfn
        finally:
            self.head, self._last = head, last

    def clear(self) -> None:
        """Take every frame out."""
        for pfn in self:
            self._owner[pfn] = 0
        self.head = self._last = _NONE
        self.length = 0
