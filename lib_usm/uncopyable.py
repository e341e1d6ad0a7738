"""What belongs to one process and is one of its kind: it can be neither copied nor pickled, and says what to do."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from lib_usm.errors import NotCopyable


class Uncopyable:
    """Base of what copy.copy, copy.deepcopy and pickle refuse: a copy would be a second owner. Raises NotCopyable."""

    instead: ClassVar[str] = "make one of its own where it is needed"

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise NotCopyable(f"{self!r} can be neither copied nor pickled: {self.instead}")
