"""A simulation counts as a replay does, and whatever its policy does stays with it."""

from types import SimpleNamespace

import pytest

from tests.support.policy_files import write_policies
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.server import shadow_simulation
from usmd.server.shadow_simulation import MAX_ERRORS, ShadowSimulation

PAGE = 64

BROKEN = """
import time

from usmd.policies.evict.lru import Lru


class Raises(Lru):
    def choose_victims(self):
        raise ValueError("no idea")


class Slow(Lru):
    def page_accessed(self, pfn, write):
        time.sleep(0.01)


class Exits(Lru):
    def __init__(self, memory):
        super().__init__(memory)
        self.count = 0

    def page_filled(self, pfn):
        raise SystemExit(1)
"""


@pytest.fixture
def broken(tmp_path):
    return write_policies(tmp_path, BROKEN, "broken.py")


def simulation(policy="lru", frames=4, pages=1 << 20, deny_budget=2):
    return ShadowSimulation(policy, frames=frames, pages=pages, page_size=PAGE, deny_budget=deny_budget)


def touch(one, *pages, writes=b""):
    one.touch(list(pages), writes, len(pages), 1.0)


@pytest.mark.parametrize(
    ("policy", "misses"),
    [("lru", 8), ("fifo", 8), ("hint_aware(fallback=lru)", 8), ("clock", 8)],
)
def test_misses_are_those_of_the_policy(policy, misses):
    one = simulation(policy)
    touch(one, 0, 1, 2, 3, 0, 4, 5, 6, 7)  # 0 hits once, and nothing after it does
    assert (one.touched, one.misses, one.errors, one.problem) == (9, misses, 0, "")
    assert one.seconds > 0


def test_pages_that_are_written_to_get_as_many_slots_as_they_need(monkeypatch):
    monkeypatch.setattr(shadow_simulation, "FIRST_SLOTS", 4)
    one = simulation()
    for first in range(0, 2000, 100):
        touch(one, *range(first, first + 100), writes=b"\1" * 100)
    touch(one, *range(2000), writes=b"\1" * 2000)
    assert (one.misses, one.stopped, one.problem) == (4000, False, "")


def test_a_sample_counts_for_all_it_stands_for():
    one = simulation()
    one.touch([1, 2], b"", 16, 1.0)
    one.touch([], b"", 8, 1.0)
    assert (one.touched, one.misses) == (24, 2)


def test_a_hint_holds_for_a_simulation_and_ends_by_itself():
    one = simulation("hint_aware(fallback=lru)")
    one.hint(events.SetHint(1, 1, 0, 2 * PAGE, parse_hint("EVICTION=DENY; TTL=10")), 1.0)
    touch(one, 0, 1, 2, 3, 4, 5, 0, 1)
    assert one.misses == 6
    one.tick(12.0)
    one.touch([6, 7, 8, 9, 0], b"", 5, 12.0)
    assert one.misses == 11


def test_dontneed_on_many_pages_is_done_and_frees_their_frames():
    one = simulation(frames=5000)
    touch(one, *range(4000))
    one.hint(events.SetHint(1, 1, 0, 4000 * PAGE, parse_hint("DONTNEED")), 1.0)
    touch(one, *range(4000))
    assert one.misses == 8000


def test_a_hint_that_cannot_be_is_told_and_the_simulation_goes_on():
    one = simulation()
    one.hint(events.SetHint(1, 1, 0, PAGE, parse_hint("SWAP=nowhere")), 1.0)
    touch(one, 0)
    assert one.problem.startswith("a hint is not in force here: swap device 'nowhere'")
    assert (one.stopped, one.misses) == (False, 1)


def test_a_policy_that_always_errs_is_stopped_and_its_numbers_stand_still(broken):
    one = simulation(f"{broken}:Raises")
    for page in range(10 * MAX_ERRORS):
        touch(one, page)
    assert one.stopped
    assert MAX_ERRORS < one.errors < 2 * MAX_ERRORS
    assert one.problem.startswith(f"stopped: more than {MAX_ERRORS} errors; evict policy {broken}:Raises: ")
    assert "ValueError('no idea')" in one.problem
    before = one.touched, one.misses
    touch(one, 5, 6, 7)
    one.hint(events.SetHint(1, 1, 0, PAGE, parse_hint("EVICTION=DENY")), 2.0)
    one.tick(3.0)
    assert (one.touched, one.misses) == before


def test_a_policy_that_takes_too_long_is_stopped(broken, monkeypatch):
    monkeypatch.setattr(shadow_simulation, "MAX_SECONDS", 0.05)
    one = simulation(f"{broken}:Slow")
    for turn in range(4):
        assert not one.stopped, turn
        touch(one, *[0] * 20)
    assert one.stopped
    assert "for 20 accesses" in one.problem


def test_a_policy_that_exits_ends_nothing(broken):
    one = simulation(f"{broken}:Exits", frames=2)
    touch(one, *range(10))
    assert one.misses == 10
    assert "SystemExit(1)" in one.problem


def test_a_defect_of_the_core_under_a_simulation_stops_that_simulation():
    one = simulation()
    one._simulation.core = SimpleNamespace(handle=lambda event, now: 1 // 0)
    touch(one, 1)
    assert one.problem.startswith("stopped: it failed with ZeroDivisionError")


@pytest.mark.parametrize(
    ("policy", "error"), [("nothing", UnknownPolicy), ("lru(x=1)", InvalidArgument), ("belady", InvalidArgument)]
)
def test_a_policy_that_cannot_be_had_is_no_simulation(policy, error):
    with pytest.raises(error):
        simulation(policy)
