"""How often the daemon's collector looks, and at what."""

import gc
import weakref

import pytest

from usmd.server.collector import THRESHOLDS, collect_rarely


@pytest.fixture
def rare():
    before = gc.get_threshold()
    collect_rarely()
    yield
    gc.set_threshold(*before)


class Knot:
    """An object in a cycle."""

    def __init__(self):
        self.me = self


def test_it_looks_rarely_and_not_at_what_is_there(rare):
    assert gc.get_threshold() == THRESHOLDS
    assert gc.get_freeze_count() > 1000


def test_a_cycle_that_is_made_later_is_still_collected(rare):
    knot = weakref.ref(Knot())
    gc.collect()
    assert knot() is None
