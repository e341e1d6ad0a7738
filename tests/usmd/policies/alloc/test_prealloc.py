"""prealloc: the first touch of a region brings in the pages after it."""

import pytest

from tests.support.fake_view import fake_view
from tests.support.shell import PAGE, Shell, make_core
from usmd.core.hints import HintRange, parse_hint
from usmd.core.policy import Allocation, AsyncRequest, Fault
from usmd.errors import InvalidArgument
from usmd.policies import registry


def plan(policy, page, *, region=1, pages=100, hint=None):
    return policy.allocate(Fault(region, page, pages, True, False, hint), AsyncRequest())


def test_the_first_fault_of_a_region_brings_many_pages_and_the_others_one():
    policy = registry.make("alloc", "prealloc(pages=8)", fake_view())
    assert plan(policy, 5) == Allocation(5, 8)
    assert plan(policy, 6) == Allocation(6)
    assert plan(policy, 50) == Allocation(50)
    assert plan(policy, 3, region=2) == Allocation(3, 8), "each region has a first fault"


def test_the_default_is_64_pages():
    assert plan(registry.make("alloc", "prealloc", fake_view()), 0) == Allocation(0, 64)


def test_they_end_with_the_region_and_with_the_hint():
    hint = HintRange(2, 9, 1, parse_hint("PRIORITY=LOW"), None)
    for options, expected in (({"pages": 9}, 4), ({"hint": hint}, 4), ({"hint": hint, "pages": 7}, 2)):
        assert plan(registry.make("alloc", "prealloc", fake_view()), 5, **options) == Allocation(5, expected)


def test_only_frames_to_spare_are_taken_for_them():
    shell = Shell(make_core(frames=8, low=2, high=3))
    process = shell.attach(alloc="prealloc")
    region = shell.map(process, 40)
    shell.put(process, region, 3, b"x" * PAGE)
    assert [page for page, _ in shell.core.state.regions[region].table.resident()] == list(range(3, 9))
    assert (shell.counters()["read_ahead"], shell.counters()["evictions"]) == (5, 0)
    shell.put(process, region, 20, b"x" * PAGE)
    assert shell.counters()["read_ahead"] == 5


@pytest.mark.parametrize("pages", [0, -1])
def test_it_brings_one_page_at_least(pages):
    with pytest.raises(InvalidArgument, match=rf"prealloc\(pages={pages}\); allowed are pages from 1"):
        registry.make("alloc", f"prealloc(pages={pages})", fake_view())
