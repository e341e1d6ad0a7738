"""Messages of a fault stream: outcomes of faults and answers of accesses, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from usm_wire.conventions import REASON_PREFIX
from usm_wire.pb.usm.v1 import client_pb2, common_pb2
from usmd.core import commands
from usmd.errors import UsmdError

MESSAGE_BYTES: Final = 1 << 20
"""About the size beyond which a message takes no more entries; a single load may be larger."""
_RUN_BYTES: Final = 64
"""Most bytes of an outcome, or of a run of its pages, in a message."""
_PAGE_BYTES: Final = 8
"""Most bytes of a page or a frame below 2^56 in a message."""
_FAILURE_BYTES: Final = 1024
"""Most bytes of the text of a failed access in a message."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer of an access."""

    access_id: int

    @property
    def size(self) -> int:
        """Bytes in a message, about."""
        return _RUN_BYTES


class Loaded(Answer, frozen=True, gc=False):
    """Answer: a load was done up to the first absent page."""

    data: bytes
    absent: Sequence[int]

    @property
    def size(self) -> int:
        """Bytes in a message, about."""
        return _RUN_BYTES + len(self.data) + _PAGE_BYTES * len(self.absent)


class Stored(Answer, frozen=True, gc=False):
    """Answer: a store was done up to the first absent page."""

    stored: int
    absent: Sequence[int]

    @property
    def size(self) -> int:
        """Bytes in a message, about."""
        return _RUN_BYTES + _PAGE_BYTES * len(self.absent)


class Refused(Answer, frozen=True, gc=False):
    """Answer: an access failed."""

    error: UsmdError

    @property
    def size(self) -> int:
        """Bytes in a message, about."""
        return _RUN_BYTES + _FAILURE_BYTES


class Drains(msgspec.Struct, frozen=True, gc=False):
    """The session is to end."""

    seconds_left: float


class PressurePassed:
    """The pressure on the session has passed a threshold. Says what holds when its message is made.

    `queued`: it is in an outbox.
    """

    __slots__ = ("above", "full", "queued", "some", "threshold")

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.above = False
        self.some = 0.0
        self.full: float | None = None
        self.queued = False


Entry = commands.Outcome | Answer | Drains | PressurePassed


def message_full(outbox: Sequence[Entry]) -> Sequence[Entry]:
    """The first entries, as many as one message takes; an outcome after an answer begins another message."""
    size = 0
    answered = False
    for count, entry in enumerate(outbox):
        if isinstance(entry, commands.Allocated):
            size += _RUN_BYTES + _RUN_BYTES * len(entry.runs)
        elif isinstance(entry, commands.PagesAllocated):
            size += _RUN_BYTES + _PAGE_BYTES * len(entry.frames)
        elif isinstance(entry, Answer):
            size += entry.size
            if size <= MESSAGE_BYTES or not count:
                answered = True
                continue
        else:
            size += _RUN_BYTES
        if (answered or size > MESSAGE_BYTES) and count:
            return outbox[:count]
    return outbox[:]


def message_of(entries: Sequence[Entry]) -> client_pb2.StreamFaultsResponse:
    """The message that holds these entries."""
    message = client_pb2.StreamFaultsResponse()
    add = message.outcomes.add
    for outcome in entries:
        if isinstance(outcome, commands.Allocated):
            entry = add()
            entry.fault_id = outcome.fault_id
            allocated = entry.allocated
            if outcome.yield_token:
                allocated.yield_token = outcome.yield_token
            runs = allocated.runs
            for first_page, first_frame, page_count in outcome.runs:
                run = runs.add()  # field by field, because keywords take half as long again
                run.first_page = first_page
                run.first_frame = first_frame
                run.page_count = page_count
            if not outcome.runs:
                allocated.SetInParent()
        elif isinstance(outcome, commands.PagesAllocated):
            pages = message.allocated_pages.add()
            pages.first_fault_id = outcome.first_id
            pages.frames.extend(outcome.frames)
        elif isinstance(outcome, Answer):
            _add_answer(message, outcome)
        elif isinstance(outcome, Drains):
            message.draining.seconds_left = outcome.seconds_left
        elif isinstance(outcome, PressurePassed):
            outcome.queued = False
            message.pressure.add(
                threshold=outcome.threshold, above=outcome.above, some_avg10=outcome.some, full_avg10=outcome.full
            )
        elif isinstance(outcome, commands.Yielded):
            entry = add()
            entry.fault_id = outcome.fault_id
            entry.yielded.yield_token = outcome.yield_token
        else:
            entry = add()
            entry.fault_id = outcome.fault_id
            failure = entry.failure
            failure.reason = failure_reason(outcome.error)
            failure.message = str(outcome.error)
            failure.page = max(outcome.page, 0)
            failure.yield_token = outcome.yield_token
    return message


def _add_answer(message: client_pb2.StreamFaultsResponse, answer: Answer) -> None:
    entry = message.accessed.add()
    entry.access_id = answer.access_id
    if isinstance(answer, Loaded):
        entry.loaded.data = answer.data
        entry.loaded.absent_pages.extend(answer.absent)
    elif isinstance(answer, Stored):
        entry.stored.stored = answer.stored
        entry.stored.absent_pages.extend(answer.absent)
    elif isinstance(answer, Refused):
        entry.failure.reason = failure_reason(answer.error)
        entry.failure.message = str(answer.error)


def failure_reason(error: UsmdError) -> common_pb2.FailureReason.ValueType:
    """The wire's name for an error's cause."""
    return number_of_reason(error.reason)


def number_of_reason(reason: str) -> common_pb2.FailureReason.ValueType:
    """The number of an error's reason in the wire contract; 0 for none."""
    return common_pb2.FailureReason.Value(REASON_PREFIX + (reason or "UNSPECIFIED"))
