"""Moves bytes between an application and a region as an MMU would: fault in absent pages, move, continue.

The generator `moves` decides what to do next: it yields faults and moves, and is sent their outcomes. lib_usm.steps
drives it. The region checks the ranges.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeAlias

from lib_usm.errors import InternalError, OutOfMemory, Thrashing, UsmError, again
from lib_usm.page_table import PageTable

# After this many rounds in which a page was evicted between fault and use, an error is better than a hang.
_MAX_FRUITLESS_ROUNDS = 1000


class Limits(NamedTuple):
    """The daemon's limits: bytes of a page, bytes of a Load or Store, pages of a fault, faults of a message."""

    page_size: int
    max_transfer_bytes: int
    max_fault_pages: int
    max_batch_faults: int


class Moved(NamedTuple):
    """The outcome of one Load or Store: bytes moved, and absent pages that it met."""

    byte_count: int
    absent_pages: Sequence[int]


class Move(NamedTuple):
    """Move the bytes from `start` to `stop`. The answer is Moved."""

    start: int
    stop: int


class FaultIn(NamedTuple):
    """Fault these runs of pages (first page, pages) in, and wait. The answer is a list of the errors, empty if none."""

    runs: list[tuple[int, int]]
    then: Move
    """The next step if there is no error. It may be tried together with the faults, and its answer kept."""


Moves: TypeAlias = Generator[FaultIn | Move, "Sequence[UsmError] | Moved", None]


class Window:
    """Number of pages faulted ahead of the position. It shrinks when memory cannot hold so many, and grows again."""

    def __init__(self, limits: Limits) -> None:
        self.most = limits.max_transfer_bytes // limits.page_size + 2
        self.pages = self.most


def moves(limits: Limits, window: Window, region_id: int, table: PageTable, position: int, end: int) -> Moves:
    """The steps that move the bytes from `position` to `end`. Raises Thrashing, InternalError, or a fault's error.

    Each `Move` begins where the previous one stopped.
    """
    page_size = limits.page_size
    fruitless = 0
    while position < end:
        first_page = position // page_size
        width = window.pages
        stop = min(end, position + limits.max_transfer_bytes, (first_page + width) * page_size)
        end_page = -(-stop // page_size)
        absent = table.absent_runs(first_page, end_page, limits.max_fault_pages)
        too_wide = False
        move = Move(position, stop)
        if absent:
            errors = yield FaultIn(absent, move)
            too_wide = _too_wide(errors, final=end_page == first_page + 1)
        if not too_wide:
            moved = yield move
            if not isinstance(moved, Moved):
                raise TypeError(f"{moved!r} is not an answer to a move")
            for page in moved.absent_pages:
                table.clear(page)
            _check(moved, position, stop, first_page)
            if moved.byte_count:
                position += moved.byte_count
                fruitless = 0
                if position == stop:
                    window.pages = min(window.most, width + max(1, width // 8))
                continue
            # The first page was just faulted in and is gone again: memory cannot hold the whole window.
            too_wide = bool(absent) and absent[0][0] == first_page
        if too_wide:
            window.pages = max(1, (end_page - first_page) // 2)
        fruitless += 1
        if fruitless == _MAX_FRUITLESS_ROUNDS:
            raise Thrashing(
                f"page {first_page} of region {region_id} was evicted {fruitless} times before it could be "
                "used; the daemon needs more memory, or fewer processes that use it"
            )


def _too_wide(errors: Sequence[UsmError] | Moved, *, final: bool) -> bool:
    """True if memory is short and a smaller window may do; if `final`, OutOfMemory is raised. Raises other errors."""
    short: OutOfMemory | None = None
    for error in errors:
        if not isinstance(error, UsmError):
            raise TypeError(f"{error!r} is not an answer to a fault")
        if not isinstance(error, OutOfMemory):
            raise again(error)
        short = short or error
    if short is not None and final:
        raise again(short)
    return short is not None


def _check(moved: Moved, position: int, stop: int, first_page: int) -> None:
    """Refuse an answer that breaks the contract, because it would cause an endless loop or lose bytes."""
    if moved.byte_count > stop - position:
        raise InternalError(f"the daemon moved {moved.byte_count} bytes where {stop - position} were asked for")
    if not moved.byte_count and first_page not in moved.absent_pages[:1]:
        raise InternalError(f"the daemon moved no byte from {position} on and did not call page {first_page} absent")
