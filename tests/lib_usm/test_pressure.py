"""Which callbacks are called for what the daemon tells of thresholds."""

import pytest

import lib_usm
from lib_usm.pressure import Pressure, Thresholds
from usm_wire.conventions import MAX_PRESSURE_THRESHOLDS
from usm_wire.pb.usm.v1 import client_pb2 as pb


class Callbacks:
    """Thresholds, and what their callbacks were called with."""

    def __init__(self):
        self.thresholds = Thresholds()
        self.told = []

    def add(self, threshold, name):
        self._make(self.thresholds.add(threshold, lambda pressure: self.told.append((name, pressure))))

    def tell(self, threshold, above, some, full=None):
        notice = pb.PressureNotice(threshold=threshold, above=above, some_avg10=some, full_avg10=full)
        self._make(self.thresholds.told(notice))

    def _make(self, calls):
        for call in calls:
            call()


def test_all_callbacks_of_a_threshold_are_called_when_it_is_passed_and_those_of_others_are_not():
    callbacks = Callbacks()
    callbacks.add(0.5, "a")
    callbacks.add(0.5, "b")
    callbacks.add(0.25, "c")
    callbacks.tell(0.5, True, 0.5, 0.0)
    callbacks.tell(0.5, False, 0.25)
    high, eased = Pressure(True, 0.5, 0.0), Pressure(False, 0.25, None)
    assert callbacks.told == [("a", high), ("b", high), ("a", eased), ("b", eased)]


def test_a_threshold_that_was_passed_before_is_told_to_a_new_callback_alone():
    callbacks = Callbacks()
    callbacks.add(0.5, "a")
    callbacks.tell(0.5, True, 0.75)
    callbacks.add(0.5, "late")
    callbacks.tell(0.5, False, 0.25)
    callbacks.add(0.5, "too late")
    assert [(name, pressure.above) for name, pressure in callbacks.told] == [
        ("a", True), ("late", True), ("a", False), ("late", False),
    ]  # fmt: skip


def test_what_is_told_again_or_of_no_threshold_here_calls_nothing():
    callbacks = Callbacks()
    callbacks.add(0.5, "a")
    callbacks.tell(0.5, False, 0.1)
    callbacks.tell(0.25, True, 0.9)
    assert callbacks.told == []
    callbacks.tell(0.5, True, 0.75)
    callbacks.tell(0.5, True, 0.875)
    assert callbacks.told == [("a", Pressure(True, 0.75, None))]


def test_there_is_a_bound_on_thresholds_and_none_on_callbacks():
    callbacks = Callbacks()
    for number in range(1, MAX_PRESSURE_THRESHOLDS + 1):
        assert callbacks.thresholds.is_new(number / 100)
        callbacks.add(number / 100, number)
    assert not callbacks.thresholds.is_new(0.01)
    callbacks.add(0.01, "another")
    assert len([*callbacks.thresholds]) == MAX_PRESSURE_THRESHOLDS
    with pytest.raises(lib_usm.LimitExceeded, match=r"has 16 thresholds of pressure, and 0\.5 would be another one"):
        callbacks.thresholds.is_new(0.5)
