"""What replays and simulations have in common: one process, one region, and the first thing that goes wrong."""

import pytest

from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.touches import Touches
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.lab.simulation import ALL_PARTS, Simulation


def simulation(evict="lru", frames=4, pages=1000):
    made = Simulation(frames=frames, pages=pages, page_size=4096, deny_budget=2, slots=pages)
    made.begin("first_fit", evict)
    return made


def test_it_has_one_process_with_one_region_of_all_pages():
    made = simulation()
    made.do(Touches(1, 1, [0, 999, 0], b"\1\0\0"), 1.0)
    assert (made.process.counters.faults, made.process.counters.accesses) == (2, 1)
    assert list(made.core.state.processes) == list(made.core.state.regions) == [1]
    assert made.problem == ""


def test_a_hint_that_asks_for_more_than_one_event_does_is_gone_on_with_when_asked_to():
    made = simulation(frames=800)
    made.do(Touches(1, 1, range(700)), 0.0)
    assert made.do(events.SetHint(1, 1, 0, None, parse_hint("DONTNEED")), 0.0)
    assert made.process.resident > 0

    made = simulation(frames=800)
    made.do(Touches(1, 1, range(700)), 0.0)
    assert not made.do(events.SetHint(1, 1, 0, None, parse_hint("DONTNEED")), 0.0, ALL_PARTS)
    assert made.process.resident == 0


def test_the_first_error_of_a_policy_is_kept_and_the_policy_too(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "from usmd.core.policy import EvictPolicy\n"
        "class Bad(EvictPolicy):\n"
        "    def page_filled(self, pfn): raise KeyError(pfn)\n"
        "    def page_left(self, pfn): raise ValueError(pfn)\n"
        "    def choose_victims(self): return ()\n"
    )
    path.chmod(0o644)
    made = simulation(f"{path}:Bad", frames=2)
    made.do(Touches(1, 1, range(500)), 0.0)
    assert "page_filled raised KeyError(0)" in made.problem
    assert made.process.counters.policy_errors > 100
    assert made.process.policies.specifications["evict"] == f"{path}:Bad"


@pytest.mark.parametrize(("evict", "error"), [("lruu", UnknownPolicy), ("belady", InvalidArgument)])
def test_a_policy_that_cannot_be_had_is_an_error(evict, error):
    with pytest.raises(error):
        simulation(evict)
