"""Steps that make pages resident, read and write. They never block; a runner runs them.

Steps are a generator that yields a `Wait` wherever it must wait, and is resumed when that is over. lib_usm.runner has
the runners. Callers check the ranges.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Generator, Sequence
from io import BytesIO
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from lib_usm import mapped
from lib_usm.byte_sequence import Strided
from lib_usm.errors import OutOfMemory, UsmError
from lib_usm.mapping import Mapping
from lib_usm.outcomes import Allocated, Answer
from lib_usm.page_table import PageTable
from lib_usm.plain_faults import PlainFaults
from lib_usm.transfer import FaultIn, Limits, Move, Moved, Window, moves
from lib_usm.waits import AheadWait, FaultRange, FaultsWait, Filing, TokenWait, Wait, Waiter

_T = TypeVar("_T")

Steps: TypeAlias = Generator[Wait, Any, _T]
_AHEAD_BYTES: Final = 1 << 16
"""A store of at most this many bytes is sent with the faults on its pages, and again if those take long."""


class StepsSession(Protocol):
    """The part of a session that steps use."""

    @property
    def limits(self) -> Limits:
        """The limits that the daemon gave at attach."""

    @property
    def window(self) -> Window:
        """The number of pages to fault ahead of a position."""


class StepsRegion(Protocol):
    """The part of a region that steps use."""

    region_id: int
    table: PageTable

    @property
    def session(self) -> StepsSession:
        """The session that made the region."""

    @property
    def mapping(self) -> Mapping | None:
        """The mapping into this process; None if the region is not mapped."""

    def check_open(self) -> None:
        """Raise ClosedError after `close`, and the reason if the session has ended."""

    def why(self, error: UsmError) -> UsmError:
        """The error to raise for a failed use of the region."""

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """Runs (first page, pages) of pages not known to be resident, each at most `longest` pages."""


class Place:
    """Where steps file their requests, and the waiter of their waits.

    `plain`: takes faults on one page as plain ones where that costs less; None: never.
    """

    __slots__ = ("pager", "plain", "waiter")

    def __init__(self, pager: Filing, waiter: Waiter, plain: PlainFaults | None = None) -> None:
        self.pager = pager
        self.waiter = waiter
        self.plain = plain


@types.coroutine
def ensure(place: Place, region: StepsRegion, first_page: int, page_count: int, *, write: bool = False) -> Steps[None]:
    """Make the absent pages of a range resident. Raises the first error of a page."""
    yield from _bring_in(place, region, first_page, page_count, write=write)


def _bring_in(place: Place, region: StepsRegion, first_page: int, page_count: int, *, write: bool) -> Steps[bool]:
    """As `ensure`; returns whether the range is one page, which was touched."""
    runs = region.absent_runs(first_page, page_count, region.session.limits.max_fault_pages)
    if not runs:
        return False
    plain, mapping = place.plain, region.mapping
    if plain is not None and mapping is not None and len(runs) == 1 and runs[0][1] == 1 and plain.chosen():
        size = region.session.limits.page_size
        if plain.took(mapping, runs[0][0] * size, size, write=write):
            return page_count == 1
    began = 0.0 if plain is None else time.thread_time()
    wait = Wait(place.waiter)
    table = None if mapping is not None else region.table
    for page, count in runs:
        place.pager.fault(table, region.region_id, page, count, wait, write=write)
    if plain is not None:
        plain.sent(time.thread_time() - began)
    yield from _until_over(wait)
    if wait.error is not None:
        raise region.why(wait.error)
    return False


@types.coroutine
def faults(place: Place, ranges: Sequence[FaultRange], *, write: bool, yields: bool) -> Steps[list[Answer]]:
    """Return the answer to a fault on each range; with `yields` a yield is an answer.

    Raises the error of the stream.
    """
    wait = FaultsWait(place.waiter, ranges, yields=yields)
    place.pager.faults(wait, write=write)
    yield from _until_over(wait)
    return wait.results()


@types.coroutine
def completion(place: Place, token: int) -> Steps[Allocated]:
    """Return the completion of the yield with this token. Raises UnknownToken, and the error of the fault."""
    wait = TokenWait(place.waiter, token)
    place.pager.take(wait)
    yield from _until_over(wait)
    return wait.result()


@types.coroutine
def read(place: Place, region: StepsRegion, offset: int, n: int) -> Steps[bytes]:
    """Return the `n` bytes from `offset`."""
    mapping = region.mapping
    if mapping is not None:
        parts = BytesIO()
        todo = mapped.visits(mapping, region.session.limits.page_size, offset, offset + n)
        yield from _visit(place, region, todo, mapped.reader(mapping, parts), write=False)
        return parts.getvalue()
    pieces: list[bytes] = []
    yield from _move(place, region, offset, offset + n, pieces, None)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@types.coroutine
def write(place: Place, region: StepsRegion, offset: int, data: memoryview) -> Steps[None]:
    """Store `data` at `offset`."""
    mapping = region.mapping
    if mapping is not None:
        todo = mapped.storing(region.session.limits.page_size, mapping, offset, data)
        yield from _visit(place, region, todo, mapped.writer(mapping, offset, data), write=True)
    else:
        yield from _move(place, region, offset, offset + len(data), [], data)


@types.coroutine
def write_strided(
    place: Place, region: StepsRegion, mapping: Mapping, strided: Strided, data: memoryview
) -> Steps[None]:
    """Store `data` into a mapped region, one byte at each position."""
    todo = mapped.visits(mapping, region.session.limits.page_size, strided.start, strided.stop)
    yield from _visit(place, region, todo, mapped.strided_writer(mapping, strided, data), write=True)


def _visit(
    place: Place, region: StepsRegion, todo: mapped.Visits, copy: Callable[[int, int], object], *, write: bool
) -> Steps[None]:
    """Do the steps of lib_usm.mapped: bring in pages known to be absent without blocking the thread, and copy."""
    answer: OutOfMemory | bool | None = None
    try:
        while True:
            step = todo.send(answer)
            answer = None
            if isinstance(step, mapped.Copy):
                copy(step.start, step.stop)
                continue
            try:
                answer = yield from _bring_in(place, region, step.first_page, step.page_count, write=write)
            except OutOfMemory as error:
                answer = error
            region.check_open()  # the region may have been closed meanwhile
    except StopIteration:
        return


def _move(
    place: Place, region: StepsRegion, start: int, end: int, pieces: list[bytes], data: memoryview | None
) -> Steps[None]:
    """Load into `pieces`, or store `data`, by messages to the daemon."""
    session = region.session
    steps = moves(session.limits, session.window, region.region_id, region.table, start, end)
    try:
        step = next(steps)
        while True:
            if isinstance(step, FaultIn):
                tried = step.then
                then: Wait = yield from _fault_in(place, region, step, data, start)
                step = steps.send([] if then.error is None else [region.why(then.error)])
                if step is not tried or not _progressed(then):
                    continue
            else:
                then = Wait(place.waiter)
                _access(place, region, step, then, data, start)
                yield from _until_over(then)
            step = steps.send(_moved(region, then, pieces))
    except StopIteration:
        return


def _fault_in(
    place: Place, region: StepsRegion, step: FaultIn, data: memoryview | None, start: int
) -> Steps[AheadWait]:
    """Fault pages in, and try the move in the same message: most often it succeeds at once."""
    wait = AheadWait(place.waiter)
    for first_page, page_count in step.runs:
        place.pager.fault(region.table, region.region_id, first_page, page_count, wait, write=data is not None)
    if data is None or step.then.stop - step.then.start <= _AHEAD_BYTES:
        _access(place, region, step.then, wait, data, start)
    yield from _until_over(wait)
    return wait


def _access(place: Place, region: StepsRegion, move: Move, wait: Wait, data: memoryview | None, start: int) -> None:
    """File a load, or a store of the part of `data` that `move` covers; `data` begins at offset `start`."""
    if data is None:
        place.pager.load(region.region_id, move.start, move.stop - move.start, wait)
    else:
        place.pager.store(region.region_id, move.start, bytes(data[move.start - start : move.stop - start]), wait)


def _progressed(wait: Wait) -> bool:
    """True if the access moved a byte."""
    answer = wait.answer
    return answer is not None and bool(answer.loaded.data or answer.stored.stored)


def _moved(region: StepsRegion, wait: Wait, pieces: list[bytes]) -> Moved:
    """The result of a load or store. Raises its error."""
    if wait.error is not None:
        raise region.why(wait.error)
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
