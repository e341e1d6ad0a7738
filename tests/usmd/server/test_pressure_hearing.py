"""Streams are told when the pressure on their session passes thresholds, each at most once in an outbox."""

import asyncio
import math

import pytest

from usm_wire.conventions import MAX_PRESSURE_THRESHOLDS
from usmd.core.pressure import Pressure
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.server.pressure_hearing import PressureHearing
from usmd.server.stream_messages import message_of


class Stream:
    """The part of a stream that hears."""

    def __init__(self):
        self.outbox = []
        self.wake = asyncio.Event()

    def read(self):
        """What a client reads: threshold, whether above, and shares."""
        entries, self.outbox = self.outbox, []
        message = message_of(entries)
        return [
            (each.threshold, each.above, each.some_avg10, each.full_avg10 if each.HasField("full_avg10") else None)
            for each in message.pressure
        ]


def pressure(some, full=None):
    found = Pressure()
    found.advance(0.0, 0.0, None if full is None else 0.0)
    found.some.averages[0] = some
    if full is not None:
        found.full.averages[0] = full
    return found


def test_a_stream_is_told_when_a_threshold_is_passed_either_way_and_others_are_not():
    hearing, stream, other = PressureHearing(), Stream(), Stream()
    hearing.hear(7, stream, [0.5, 0.8])
    hearing.hear(8, other, [0.1])
    hearing.tell(7, pressure(0.4, 0.1))
    assert not stream.wake.is_set()
    hearing.tell(7, pressure(0.6, 0.25))
    assert stream.wake.is_set()
    assert stream.read() == [(0.5, True, 0.6, 0.25)]
    hearing.tell(7, pressure(0.4))
    assert stream.read() == []
    hearing.tell(7, pressure(0.3))
    assert stream.read() == [(0.5, False, 0.3, None)]
    assert other.read() == []


def test_a_client_that_does_not_read_is_told_the_latest_alone():
    hearing, stream = PressureHearing(), Stream()
    hearing.hear(7, stream, [0.5])
    for some in (0.6, 0.1) * 50 + (0.7,):
        hearing.tell(7, pressure(some))
    assert stream.read() == [(0.5, True, 0.7, None)]
    hearing.tell(7, pressure(0.1))
    assert stream.read() == [(0.5, False, 0.1, None)]


@pytest.mark.parametrize("wrong", [0.0, -1.0, 1.01, math.nan, math.inf])
def test_what_is_no_share_of_time_is_refused_and_so_are_too_many(wrong):
    hearing, stream = PressureHearing(), Stream()
    with pytest.raises(InvalidArgument, match="allowed are shares above 0, up to 1"):
        hearing.hear(7, stream, [0.5, wrong])
    hearing.tell(7, pressure(1.0))
    assert stream.read() == []
    hearing.hear(7, stream, [0.5] * (MAX_PRESSURE_THRESHOLDS - 1))
    with pytest.raises(LimitExceeded, match="17 thresholds of pressure of one session; allowed are 16"):
        hearing.hear(7, Stream(), [0.1, 0.2])
    hearing.hear(7, Stream(), [0.1])
    hearing.hear(8, Stream(), [0.1])


def test_a_closed_stream_is_told_nothing_and_leaves_room():
    hearing, stream = PressureHearing(), Stream()
    hearing.hear(7, stream, [0.5] * MAX_PRESSURE_THRESHOLDS)
    hearing.forget(7, stream)
    hearing.forget(7, stream)
    hearing.tell(7, pressure(1.0))
    assert stream.read() == []
    hearing.hear(7, Stream(), [0.5] * MAX_PRESSURE_THRESHOLDS)
