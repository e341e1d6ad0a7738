"""The base of objects that cannot be copied or pickled; the error says what to do instead."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from lib_usm.errors import NotCopyable


class Uncopyable:
    """copy.copy, copy.deepcopy and pickle raise NotCopyable, because a copy would be a second owner."""

    instead: ClassVar[str] = "make one of its own where it is needed"

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise NotCopyable(f"{self!r} can be neither copied nor pickled: {self.instead}")
