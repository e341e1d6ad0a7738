"""Events: values that cannot change, and every one has a handler."""

import pytest

from tests.support.shell import Shell, make_core
from usmd.core import events
from usmd.core.instant import InstantCore
from usmd.core.settings import CoreSettings
from usmd.core.touches import Touches
from usmd.policies import registry


def test_every_event_is_handled():
    handled = set(Shell(make_core()).core._handlers)
    assert handled == {each for each in events.Event.__subclasses__() if each.__module__ == events.__name__}


def test_touches_are_for_the_core_without_bytes_only():
    settings = CoreSettings(frames=2, page_size=16, deny_budget=0, deny_budget_total=0)
    instant = InstantCore(settings, (), registry.make)
    assert set(instant._handlers) == {*make_core()._handlers, Touches}


def test_an_event_is_a_value():
    assert events.Unmap(1, 2) == events.Unmap(1, 2)
    assert events.Unmap(1, 2) != events.Detach(1, "bye")
    with pytest.raises(AttributeError):
        events.Unmap(1, 2).region_id = 3
