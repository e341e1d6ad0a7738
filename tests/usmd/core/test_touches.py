"""Touches are an event for simulations: the daemon's core does not handle them, and an event log has none."""

import pytest

from tests.support.shell import make_core
from usmd.core.touches import Touches
from usmd.errors import EventLogError
from usmd.lab.event_records import Record, read_record, record_line


def test_without_more_all_touches_are_reads_at_the_time_of_the_event():
    touches = Touches(1, 1, [3, 4])
    assert (touches.writes, touches.times, touches.first) == (b"", (), 0)


def test_a_core_with_a_shell_does_not_handle_them():
    with pytest.raises(KeyError):
        make_core().handle(Touches(1, 1, [0]), 0.0)


def test_an_event_log_has_none():
    with pytest.raises(EventLogError, match="Touches"):
        read_record(record_line(Record(0.0, Touches(1, 1, [0]))))
