"""What a runner waits for: requests of a pager and their answers. A wait wakes its waiter and never blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

from lib_usm.errors import InternalError, UsmError, again, error_of_failure
from lib_usm.outcomes import Allocated, Answer, allocated
from lib_usm.page_table import PageTable
from usm_wire.pb.usm.v1 import client_pb2

FaultRange: TypeAlias = tuple[PageTable, int, int, int]
"""Pages to fault in: the region's table and number, the first page, the number of pages."""


class Waiter(Protocol):
    """A thread, uThread or task that waits."""

    def wake(self) -> None:
        """Resume it, because its wait is over."""


class Wait:
    """Unanswered requests of a waiter, and the outcome of the answered ones."""

    __slots__ = ("answer", "error", "remaining", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter: Waiter | None = waiter
        """None: the waiter has left, and answers are dropped."""
        self.remaining = 0
        self.error: UsmError | None = None
        """The first error."""
        self.answer: client_pb2.AccessOutcome | None = None

    def answered(self, error: UsmError | None) -> None:
        """Count the answer to one request."""
        if error is not None and self.error is None:
            self.error = error
        self.remaining -= 1
        if not self.remaining and self.waiter is not None:
            self.waiter.wake()

    def took(self, answer: Answer) -> None:
        """Take the answer to a fault."""
        self.answered(answer if isinstance(answer, UsmError) else None)

    def accessed(self, answer: client_pb2.AccessOutcome) -> None:
        """Take the answer to a load or store."""
        self.answer = answer
        failed = answer.WhichOneof("outcome") in (None, "failure")
        self.answered(error_of_failure(answer.failure) if failed else None)


class AheadWait(Wait):
    """A wait for faults and for an access sent with them, whose failure is ignored, because it is sent again."""

    __slots__ = ()

    def accessed(self, answer: client_pb2.AccessOutcome) -> None:
        """Take the answer to a load or store."""
        self.answer = answer
        self.answered(None)


class FaultsWait(Wait):
    """A wait for a fault on each range, which keeps the answers; `error` is set only if the stream ended.

    With `yields` a yield is an answer. Lists replace an object for each fault: a call may file thousands.
    """

    __slots__ = ("answers", "first_id", "ranges", "yields")

    def __init__(self, waiter: Waiter, ranges: Sequence[FaultRange], *, yields: bool) -> None:
        super().__init__(waiter)
        self.ranges = ranges
        self.yields = yields
        self.first_id = 0
        """Number of the first fault; the others follow."""
        self.answers: list[Answer | None] = [None] * len(ranges)

    def took(self, answer: Answer, index: int = 0) -> None:
        """Take the answer to the fault on the range with this index."""
        self.answers[index] = answer
        self.remaining -= 1
        if not self.remaining and self.waiter is not None:
            self.waiter.wake()

    def took_all(self, answers: Sequence[Answer], index: int) -> None:
        """Take the answers to the faults on the ranges from this index on."""
        self.answers[index : index + len(answers)] = answers
        self.remaining -= len(answers)
        if not self.remaining and self.waiter is not None:
            self.waiter.wake()

    def results(self) -> list[Answer]:
        """The answers by index, once `remaining` is 0. Raises `error`."""
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
        """Take the completion of the fault."""
        self.completion = answer
        self.answered(None)

    def result(self) -> Allocated:
        """The result of the fault, once it was completed. Raises its error, or `error`."""
        if self.error is not None or self.completion is None:
            raise again(self.error or InternalError(f"the fault of token {self.token} was not completed"))
        return allocated(self.completion)


class Filing(Protocol):
    """Where steps file their requests: a Pager, or a runner that passes them on to one."""

    def fault(
        self, table: PageTable | None, region_id: int, first_page: int, page_count: int, wait: Wait, *, write: bool
    ) -> None:
        """File a fault of at most `max_fault_pages` pages. `table`, if given, is updated by the answer.

        If a fault on the same single page is in flight, `wait` joins it and none is sent.
        """

    def faults(self, wait: FaultsWait, *, write: bool) -> None:
        """File a fault on each range of `wait`."""

    def load(self, region_id: int, offset: int, length: int, wait: Wait) -> None:
        """File a load; its outcome will be in `wait.answer`."""

    def store(self, region_id: int, offset: int, data: bytes, wait: Wait) -> None:
        """File a store; its outcome will be in `wait.answer`."""

    def take(self, wait: TokenWait) -> None:
        """Have `wait` receive the completion of the yield that its token names."""


class Fault:
    """A fault in flight, and the waits for it."""

    __slots__ = ("answer", "key", "page_count", "table", "token", "waits")

    def __init__(self, table: PageTable | None, key: tuple[int, int], page_count: int, token: int = 0) -> None:
        self.table = table
        self.key = key
        """The region's number and the first page."""
        self.page_count = page_count
        self.token = token
        """Token of its yield, if it has yielded to an explicit wait; else 0."""
        self.waits: list[Wait] = []
        self.answer: Answer | None = None
        """The answer after a yield, until a wait takes it."""
