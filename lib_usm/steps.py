"""What a uThread does to make pages resident, to read and to write: steps that never block, for whoever runs them.

Each is a generator that yields a `Wait` wherever something must be waited for, and goes on when that is over. A
LocalManager runs them for uThreads, lib_usm.asyncio_pager for asyncio's tasks. Ranges are checked before.
"""

from __future__ import annotations

import types
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from lib_usm.errors import UsmError
from lib_usm.pager import Pager, Wait, Waiter
from lib_usm.transfer import FaultIn, Moved, moves

if TYPE_CHECKING:
    from lib_usm.mapping import Mapping
    from lib_usm.region import Region

_T = TypeVar("_T")

Steps: TypeAlias = Generator[Wait, Any, _T]

_PIECE_PAGES: Final = 64
"""Pages of a mapped region that are made resident together before they are touched."""
_ROUNDS: Final = 4
"""Times that a page may be gone again before it is touched; then the touch itself waits for it, and the thread too."""


class Place:
    """Where steps file what they wait for, and who waits."""

    __slots__ = ("pager", "waiter")

    def __init__(self, pager: Pager, waiter: Waiter) -> None:
        self.pager = pager
        self.waiter = waiter


@types.coroutine
def ensure(place: Place, region: Region, first_page: int, page_count: int, *, write: bool = False) -> Steps[None]:
    """Make pages resident that are not. Raises the first error of a page."""
    runs = region.absent_runs(first_page, page_count, region.client.max_fault_pages)
    if not runs:
        return
    wait = Wait(place.waiter)
    table = None if region.mapping is not None else region.table
    for page, count in runs:
        place.pager.fault(table, region.region_id, page, count, wait, write=write)
    yield from _until_over(wait)
    if wait.error is not None:
        raise wait.error


@types.coroutine
def read(place: Place, region: Region, offset: int, n: int) -> Steps[bytes]:
    """Return the `n` bytes from `offset` on."""
    pieces: list[bytes] = []
    mapping = region.mapping
    if mapping is not None:
        for start, stop in _pieces(region, offset, n):
            yield from _arrive(place, region, mapping, start, stop, write=False)
            pieces.append(bytes(mapping.view[start:stop]))
    else:
        yield from _move(place, region, offset, offset + n, pieces, None)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@types.coroutine
def write(place: Place, region: Region, offset: int, data: memoryview) -> Steps[None]:
    """Store `data` from `offset` on."""
    mapping = region.mapping
    if mapping is not None:
        for start, stop in _pieces(region, offset, len(data)):
            yield from _arrive(place, region, mapping, start, stop, write=True)
            mapping.view[start:stop] = data[start - offset : stop - offset]
    else:
        yield from _move(place, region, offset, offset + len(data), [], data)


def _pieces(region: Region, offset: int, n: int) -> list[tuple[int, int]]:
    """A range of bytes in parts of few pages."""
    size = _PIECE_PAGES * region.client.page_size
    end = offset + n
    starts = [offset, *range((offset // size + 1) * size, end, size)] if n else []
    return list(zip(starts, [*starts[1:], end], strict=True)) if starts else []


def _arrive(place: Place, region: Region, mapping: Mapping, start: int, stop: int, *, write: bool) -> Steps[None]:
    """Have the pages of a few bytes in memory, so that touching them does not stop the thread."""
    first_page, page_count = region.pages(start, stop - start)
    for _ in range(_ROUNDS):
        if mapping.resident(first_page, page_count):
            return
        yield from ensure(place, region, first_page, page_count, write=write)
        region.check_open()  # it may have been closed meanwhile


def _move(
    place: Place, region: Region, start: int, end: int, pieces: list[bytes], data: memoryview | None
) -> Steps[None]:
    """Load into `pieces`, or store `data`, by messages."""
    transfer = region.client.transfer
    steps = moves(transfer.limits, transfer.window, region.region_id, region.table, start, end)
    try:
        step = next(steps)
        while True:
            wait = Wait(place.waiter)
            if isinstance(step, FaultIn):
                errors: Sequence[UsmError] = yield from _fault_in(place, step, wait, write=data is not None)
                step = steps.send(errors)
                continue
            if data is None:
                place.pager.load(region.region_id, step.start, step.stop - step.start, wait)
            else:
                piece = bytes(data[step.start - start : step.stop - start])
                place.pager.store(region.region_id, step.start, piece, wait)
            yield from _until_over(wait)
            step = steps.send(_moved(wait, pieces))
    except StopIteration:
        return


def _fault_in(place: Place, step: FaultIn, wait: Wait, *, write: bool) -> Steps[list[UsmError]]:
    for table, region_id, first_page, page_count in step.ranges:
        place.pager.fault(table, region_id, first_page, page_count, wait, write=write)
    yield from _until_over(wait)
    return [] if wait.error is None else [wait.error]


def _moved(wait: Wait, pieces: list[bytes]) -> Moved:
    """What came of a load or store; raises its error."""
    if wait.error is not None:
        raise wait.error
    answer = wait.answer
    if answer is None:
        raise TypeError("an access was answered with nothing")
    if answer.WhichOneof("outcome") == "loaded":
        pieces.append(answer.loaded.data)
        return Moved(len(answer.loaded.data), answer.loaded.absent_pages)
    return Moved(answer.stored.stored, answer.stored.absent_pages)


def _until_over(wait: Wait) -> Steps[None]:
    while wait.remaining:
        yield wait
