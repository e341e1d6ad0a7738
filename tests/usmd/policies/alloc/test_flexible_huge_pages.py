"""flexible_huge_pages: N pages around the fault, within region, hint and budget."""

import pytest

from tests.support.fake_view import fake_view
from usmd.core.hints import HintRange, parse_hint
from usmd.core.policy import Allocation, AsyncRequest, Fault
from usmd.errors import InvalidArgument
from usmd.policies import registry
from usmd.policies.alloc.flexible_huge_pages import FlexibleHugePages


def plan(page, *, hint=None, span=(0, 100), resident=0, frames=100, region=100, **parameters):
    memory = fake_view(page_size=16, frame_count=frames, resident_pages=resident)
    found = None if hint is None else HintRange(*span, 1, parse_hint(hint), None)
    return FlexibleHugePages(memory, **parameters).allocate(Fault(1, page, region, False, True, found), AsyncRequest())


def test_pages_come_in_groups_that_begin_at_multiples_of_n():
    assert [plan(page, pages=5) for page in (0, 4, 5, 7)] == [
        Allocation(0, 5), Allocation(0, 5), Allocation(5, 5), Allocation(5, 5),
    ]  # fmt: skip


def test_a_group_ends_with_its_region_and_its_hint():
    assert plan(7, pages=5, region=8) == Allocation(5, 3)
    assert plan(7, pages=5, hint="FHP=AUTO", span=(6, 9)) == Allocation(6, 3)


def test_a_hint_says_how_many_bytes_rounded_up_to_pages():
    assert plan(9, hint="FHP=33B") == Allocation(9, 3)
    assert plan(9, hint="FHP=1B") == Allocation(9)
    assert plan(9, hint="FHP=AUTO", pages=4) == plan(9, pages=4) == Allocation(8, 4)


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (None, Allocation(21)),
        ("PRIORITY=HIGH", Allocation(21)),
        ("FHP=64B", Allocation(20, 4)),
        ("FHP=AUTO", Allocation(16, 16)),
        ("ACCESS=SEQUENTIAL", Allocation(21, 16)),
        ("ACCESS=SEQUENTIAL; FHP=64B", Allocation(21, 4)),
        ("ACCESS=RANDOM; FHP=AUTO", Allocation(21)),
    ],
)
def test_single_pages_become_more_by_hints_alone(hint, expected):
    assert plan(21, pages=1, hint=hint) == expected


def test_sequential_takes_what_follows_and_random_only_the_page():
    assert plan(7, pages=4, hint="ACCESS=SEQUENTIAL") == Allocation(7, 4)
    assert plan(7, pages=4, hint="ACCESS=RANDOM; FHP=1KiB") == Allocation(7)


@pytest.mark.parametrize(
    ("resident", "expected"), [(46, Allocation(4, 4)), (47, Allocation(4, 3)), (49, Allocation(5)), (60, Allocation(5))]
)
def test_the_budget_is_a_share_of_all_frames(resident, expected):
    assert plan(5, pages=4, resident=resident, budget=0.5) == expected


@pytest.mark.parametrize(
    "parameters", [{"pages": 0}, {"pages": -1}, {"budget": 1.1}, {"budget": -0.1}, {"budget": float("nan")}]
)
def test_a_parameter_outside_what_is_allowed_is_refused(parameters):
    with pytest.raises(InvalidArgument, match="allowed are pages from 1 and budget from 0 to 1"):
        plan(0, **parameters)


@pytest.mark.parametrize(
    ("size", "pages"), [("64", 4), ("48B", 3), ("16", 1), ("1K", 64), ("1KB", 64), ("1KiB", 64), ("1G", 1 << 26)]
)
def test_a_size_in_bytes_is_any_number_of_whole_pages(size, pages):
    made = registry.make("alloc", f"flexible_huge_pages(size={size})", fake_view(page_size=16))
    assert made.pages == pages


@pytest.mark.parametrize("size", ["8", "40", "2G"])
def test_a_size_that_is_no_number_of_pages_or_too_large_is_refused(size):
    with pytest.raises(InvalidArgument, match=r"allowed are whole pages of 16 B up to 1 GiB, such as 64K, 64KB or"):
        registry.make("alloc", f"flexible_huge_pages(size={size})", fake_view(page_size=16))
