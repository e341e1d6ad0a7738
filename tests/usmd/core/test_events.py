"""Events: values that cannot change, and every one has a handler."""

import pytest

from tests.support.shell import Shell, make_core
from usmd.core import events


def test_every_event_is_handled():
    handled = set(Shell(make_core()).core._handlers)
    assert handled == {each for each in events.Event.__subclasses__() if each.__module__ == events.__name__}


def test_an_event_is_a_value():
    assert events.Unmap(1, 2) == events.Unmap(1, 2)
    assert events.Unmap(1, 2) != events.Detach(1, "bye")
    with pytest.raises(AttributeError):
        events.Unmap(1, 2).region_id = 3
