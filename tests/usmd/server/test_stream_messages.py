"""What fault streams say: everything of an entry, in order, and how much of it one message takes."""

import grpc
import pytest

from usm_wire.pb.usm.v1 import common_pb2
from usmd import errors
from usmd.core import commands
from usmd.server.stream_messages import (
    MESSAGE_BYTES,
    Drains,
    Loaded,
    Refused,
    Stored,
    failure_reason,
    message_full,
    message_of,
)

TOP = (1 << 64) - 1


def test_every_error_has_a_name_on_the_wire():
    def tree(error):
        yield error
        for below in error.__subclasses__():
            yield from tree(below)

    for error in tree(errors.UsmdError):
        assert common_pb2.FailureReason.Name(failure_reason(error("x"))) == f"FAILURE_REASON_{error.reason}"
        assert hasattr(grpc.StatusCode, error.code)


def test_outcomes_keep_their_order_and_say_everything():
    message = message_of(
        [
            commands.Allocated(1, ((5, 7, 2), (9, 1, 1))),
            commands.Yielded(2, 11),
            commands.Allocated(2, (), 11),
            commands.Failed(3, errors.DataLoss("gone"), 4, 12),
        ]
    )
    first, second, third, fourth = message.outcomes
    assert [(run.first_page, run.first_frame, run.page_count) for run in first.allocated.runs] == [(5, 7, 2), (9, 1, 1)]
    assert second.yielded.yield_token == 11
    assert (third.WhichOneof("outcome"), third.allocated.yield_token) == ("allocated", 11)
    assert (fourth.failure.message, fourth.failure.page, fourth.failure.yield_token) == ("gone", 4, 12)
    assert fourth.failure.reason == common_pb2.FAILURE_REASON_DATA_LOSS


def test_pages_that_came_in_alone_are_told_by_their_frames():
    message = message_of([commands.PagesAllocated(TOP - 2, range(4, 7)), commands.PagesAllocated(5, [9, 1])])
    assert [(each.first_fault_id, list(each.frames)) for each in message.allocated_pages] == [
        (TOP - 2, [4, 5, 6]),
        (5, [9, 1]),
    ]
    many = [commands.PagesAllocated(0, range(MESSAGE_BYTES // 16)) for _ in range(4)]
    assert len(message_full(many)) < len(many)


def test_a_notice_of_the_end_travels_with_outcomes():
    message = message_of([commands.Yielded(2, 11), Drains(12.5), commands.Allocated(2, ())])
    assert (len(message.outcomes), message.draining.seconds_left) == (2, 12.5)
    assert not message_of([commands.Yielded(2, 11)]).HasField("draining")


def test_an_outcome_has_the_fault_id_of_its_client():
    message = message_of([commands.Yielded(TOP, 1), commands.Allocated(0, ())])
    assert [outcome.fault_id for outcome in message.outcomes] == [TOP, 0]


def test_answers_keep_their_order_and_say_everything():
    message = message_of(
        [
            Loaded(TOP, b"data", (3, TOP)),
            Stored(2, 4096, (1,)),
            Refused(3, errors.OutOfRange("beyond")),
            Loaded(4, b"", ()),
            Stored(5, 0, ()),
        ]
    )
    loaded, stored, failed, empty, none = message.accessed
    assert [answer.access_id for answer in message.accessed] == [TOP, 2, 3, 4, 5]
    assert (loaded.loaded.data, list(loaded.loaded.absent_pages)) == (b"data", [3, TOP])
    assert (stored.stored.stored, list(stored.stored.absent_pages)) == (4096, [1])
    assert (failed.failure.reason, failed.failure.message) == (common_pb2.FAILURE_REASON_OUT_OF_RANGE, "beyond")
    assert (failed.failure.page, failed.failure.yield_token) == (0, 0)
    assert [answer.WhichOneof("outcome") for answer in (empty, none)] == ["loaded", "stored"]


def parts(outbox):
    """What goes into each message."""
    found = []
    while outbox:
        found.append(message_full(outbox))
        outbox = outbox[len(found[-1]) :]
    return found


def test_what_fits_is_one_message():
    outbox = [commands.Yielded(1, 1), commands.Allocated(2, ((0, 0, 1),)), Loaded(1, bytes(5000), ()), Stored(2, 1, ())]
    assert parts(outbox) == [outbox]


def test_an_outcome_after_an_answer_begins_another_message():
    first, answer, failed = commands.Allocated(1, ()), Stored(1, 1, ()), commands.Failed(2, errors.DataLoss("gone"), 0)
    assert parts([first, answer, failed, answer, first]) == [[first, answer], [failed, answer], [first]]


@pytest.mark.parametrize(
    "entry",
    [
        commands.Yielded(1, 1),
        commands.Allocated(1, ((TOP, TOP, 1),) * 100),
        Loaded(1, bytes(1000), ()),
        Loaded(1, b"", range(1 << 55, (1 << 55) + 1000)),
        Stored(1, 1, range(1 << 55, (1 << 55) + 1000)),
        Refused(1, errors.NotFound("x" * 1000)),
    ],
)
def test_a_message_takes_no_more_than_its_size(entry):
    outbox = [entry] * 20_000
    first = message_full(outbox)
    assert 1 < len(first) < len(outbox)
    assert message_of(first).ByteSize() <= MESSAGE_BYTES


def test_a_load_that_is_larger_than_a_message_should_be_is_one_alone():
    large, small = Loaded(1, bytes(MESSAGE_BYTES), ()), Stored(2, 1, ())
    assert parts([large, large, small]) == [[large], [large], [small]]
