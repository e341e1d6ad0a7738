"""What a fault brings, as the application sees it."""

import dataclasses

import pytest

import lib_usm
from lib_usm.pb.usm.v1 import client_pb2


def test_allocated_tells_pages_and_frames():
    runs = [client_pb2.FrameRun(first_page=1, first_frame=10, page_count=2), client_pb2.FrameRun(first_page=5)]
    outcome = lib_usm.Allocated(client_pb2.Allocated(runs=runs))
    assert outcome.runs == (lib_usm.FrameRun(1, 10, 2), lib_usm.FrameRun(5, 0, 0))
    assert repr(outcome).startswith("Allocated(runs=(FrameRun(first_page=1, first_frame=10, page_count=2)")


def test_yielded_is_its_token_and_nothing_changes_it():
    outcome = lib_usm.Yielded(7)
    assert outcome == lib_usm.Yielded(7) != lib_usm.Yielded(8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.token = 8
