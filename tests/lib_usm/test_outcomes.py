"""What a fault brings, as the application sees it."""

import dataclasses

import pytest

import lib_usm
from lib_usm.outcomes import allocated, decoded
from tests.support.uthreads import failed
from usm_wire.pb.usm.v1 import client_pb2


def test_allocated_tells_pages_and_frames():
    runs = [client_pb2.FrameRun(first_page=1, first_frame=10, page_count=2), client_pb2.FrameRun(first_page=5)]
    outcome = lib_usm.Allocated(client_pb2.Allocated(runs=runs))
    assert outcome.runs == (lib_usm.FrameRun(1, 10, 2), lib_usm.FrameRun(5, 0, 0))
    assert repr(outcome).startswith("Allocated(runs=(FrameRun(first_page=1, first_frame=10, page_count=2)")


def test_allocated_of_a_page_and_its_frame_is_one_run():
    assert lib_usm.Allocated((3, 70)).runs == (lib_usm.FrameRun(3, 70, 1),)


def test_yielded_is_its_token_and_nothing_changes_it():
    outcome = lib_usm.Yielded(7)
    assert outcome == lib_usm.Yielded(7) != lib_usm.Yielded(8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.token = 8


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (client_pb2.Outcome(allocated=client_pb2.Allocated()), lib_usm.Allocated),
        (client_pb2.Outcome(yielded=client_pb2.Yield(yield_token=5)), lib_usm.Yielded),
        (client_pb2.Outcome(failure=failed(1, 2, "DATA_LOSS").failure), lib_usm.DataLoss),
        (client_pb2.Outcome(), lib_usm.InternalError),
    ],
)
def test_what_the_daemon_says_of_a_fault_is_an_answer(outcome, kind):
    assert type(decoded(outcome)) is kind


def test_a_fault_that_was_waited_for_is_allocated_or_raised():
    brought = lib_usm.Allocated(client_pb2.Allocated())
    assert allocated(brought) is brought
    error = lib_usm.DataLoss("lost")
    with pytest.raises(lib_usm.DataLoss) as raised:
        allocated(error)
    assert raised.value is not error
    with pytest.raises(lib_usm.InternalError, match="not an answer to a fault that waits"):
        allocated(lib_usm.Yielded(1))
