"""What a runner waits for: requests that a pager has sent, and what comes of them. They wake waiters, never block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

from lib_usm.errors import InternalError, UsmError, again, error_of_failure
from lib_usm.outcomes import Allocated, Answer, allocated
from lib_usm.page_table import PageTable
from usm_wire.pb.usm.v1 import client_pb2

FaultRange: TypeAlias = tuple[PageTable, int, int, int]
"""Pages to fault in: the region's table and number, the first page and how many."""


class Waiter(Protocol):
    """A thread, uThread or task, which goes on when its wait is over."""

    def wake(self) -> None:
        """Go on."""


class Wait:
    """What a waiter waits for: requests still unanswered, and what came of those that were."""

    __slots__ = ("answer", "error", "remaining", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter: Waiter | None = waiter
        """None: nobody waits any more, and answers are forgotten."""
        self.remaining = 0
        self.error: UsmError | None = None
        """The first one."""
        self.answer: client_pb2.AccessOutcome | None = None

    def answered(self, error: UsmError | None) -> None:
        """One of the requests was."""
        if error is not None and self.error is None:
            self.error = error
        self.remaining -= 1
        if not self.remaining and self.waiter is not None:
            self.waiter.wake()

    def took(self, answer: Answer) -> None:
        """A fault was answered."""
        self.answered(answer if isinstance(answer, UsmError) else None)

    def accessed(self, answer: client_pb2.AccessOutcome) -> None:
        """The load or store was answered."""
        self.answer = answer
        failed = answer.WhichOneof("outcome") in (None, "failure")
        self.answered(error_of_failure(answer.failure) if failed else None)


class AheadWait(Wait):
    """A wait for faults, and for an access that was sent with them, whose failure says nothing: it is sent again."""

    __slots__ = ()

    def accessed(self, answer: client_pb2.AccessOutcome) -> None:
        """The load or store was answered."""
        self.answer = answer
        self.answered(None)


class FaultsWait(Wait):
    """A wait for a fault on each range that keeps the answers; `error` is only why none will come.

    With `yields` a yield is an answer. Lists instead of an object for each fault: explicit faults come by thousands.
    """

    __slots__ = ("answers", "first_id", "ranges", "yields")

    def __init__(self, waiter: Waiter, ranges: Sequence[FaultRange], *, yields: bool) -> None:
        super().__init__(waiter)
        self.ranges = ranges
        self.yields = yields
        self.first_id = 0
        """Of the faults, which are numbered on from there."""
        self.answers: list[Answer | None] = [None] * len(ranges)

    def took(self, answer: Answer, index: int = 0) -> None:
        """The fault on the range with this index was answered."""
        self.answers[index] = answer
        self.remaining -= 1
        if not self.remaining and self.waiter is not None:
            self.waiter.wake()

    def results(self) -> list[Answer]:
        """The answers by index, once there are no `remaining` ones. Raises `error`."""
        if self.error is not None:
            raise again(self.error)
        return cast("list[Answer]", self.answers)


class TokenWait(Wait):
    """A wait for the completion of a yield."""

    __slots__ = ("completion", "fault", "token")

    def __init__(self, waiter: Waiter, token: int) -> None:
        super().__init__(waiter)
        self.token = token
        self.fault: Fault | None = None
        self.completion: Answer | None = None

    def took(self, answer: Answer) -> None:
        """The fault was completed."""
        self.completion = answer
        self.answered(None)

    def result(self) -> Allocated:
        """What the fault brought, once it was completed. Raises its error, or `error`."""
        if self.error is not None or self.completion is None:
            raise again(self.error or InternalError(f"the fault of token {self.token} was not completed"))
        return allocated(self.completion)


class Filing(Protocol):
    """Where steps file what they wait for: a Pager, or a runner that passes it on to one."""

    def fault(
        self, table: PageTable | None, region_id: int, first_page: int, page_count: int, wait: Wait, *, write: bool
    ) -> None:
        """File a fault, which `table` hears of too; at most the session's `max_fault_pages` pages.

        On a single page on which another is in flight none is sent: `wait` waits for that one.
        """

    def faults(self, wait: FaultsWait, *, write: bool) -> None:
        """File a fault on each range of `wait`."""

    def load(self, region_id: int, offset: int, length: int, wait: Wait) -> None:
        """File a load; `wait.answer` will hold what came."""

    def store(self, region_id: int, offset: int, data: bytes, wait: Wait) -> None:
        """File a store; `wait.answer` will hold what came."""

    def take(self, wait: TokenWait) -> None:
        """Have `wait` get the completion of the yield that has its token."""


class Fault:
    """A fault in flight, and what waits for it."""

    __slots__ = ("answer", "key", "page_count", "table", "token", "waits")

    def __init__(self, table: PageTable | None, key: tuple[int, int], page_count: int, token: int = 0) -> None:
        self.table = table
        self.key = key
        """The region's number and the first page."""
        self.page_count = page_count
        self.token = token
        """Of its yield, if that was an answer."""
        self.waits: list[Wait] = []
        self.answer: Answer | None = None
        """Of a fault that has yielded, until it is waited for."""
