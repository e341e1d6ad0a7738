"""readahead: faults that are equally far apart."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from tests.usmd.policies.alloc.test_readahead import PAGES, Scan, check_bytes, counts
from usmd.core.policy import Allocation


@pytest.mark.parametrize("step", [2, 17, 500])
def test_the_third_fault_opens_a_window_that_doubles_up_to_the_bound(step):
    plans = Scan(pages=8).touch(range(100, min(100 + 40 * step, 10_000), step))
    assert plans[:3] == [Allocation(100), Allocation(100 + step), Allocation(100 + 2 * step, 4, None, step)]
    assert plans[3] == Allocation(100 + 6 * step, 8, None, step)
    assert counts(plans[4:-1]) == [8] * len(plans[4:-1])


def test_downwards_the_window_lies_before_the_page_and_ends_at_the_first():
    plans = Scan().touch(range(70, -1, -10))
    assert plans == [Allocation(70), Allocation(60), Allocation(20, 4, None, 10), Allocation(0, 2, None, 10)]


def test_a_window_ends_at_the_hint():
    scan = Scan()
    plans = [scan.fault(page, hint="PRIORITY=HIGH", span=(100, 150)) for page in (100, 120, 140)]
    assert plans[-1] == Allocation(140, 1, None, 20)


@pytest.mark.parametrize("hint", ["ACCESS=RANDOM", "FHP=4K"])
def test_where_a_hint_speaks_against_it_there_is_none(hint):
    scan = Scan()
    assert counts(scan.fault(page, hint=hint) for page in range(0, 1000, 100)) == [1] * 10


def test_two_streams_by_turns_are_both_followed_and_one_of_each_kind_too():
    by_turns = [page for pair in zip(range(0, 1600, 16), range(5000, 8000, 30), strict=True) for page in pair]
    assert counts(Scan(pages=8).touch(by_turns))[4:8] == [4, 1, 1, 4]
    mixed = [page for pair in zip(range(100), range(5000, 8000, 30), strict=True) for page in pair]
    plans = Scan(pages=8).touch(mixed)
    assert {plan.stride for plan in plans if plan.count > 1} == {1, 30}


def test_the_columns_of_a_table_are_followed_one_after_the_other():
    scan = Scan()
    first = scan.touch(range(0, 4000, 40))
    second = scan.touch(range(7, 4000, 40))
    assert len(first) <= 9
    assert counts(second)[:3] == [1, 1, 4]
    assert len(second) <= 9


def test_the_same_page_again_and_again_is_no_stream():
    scan = Scan()
    assert counts(scan.fault(5) for _ in range(10)) == [1] * 10


def test_faults_in_no_order_bring_in_single_pages():
    generator = random.Random(7)
    scan = Scan()
    pages = [generator.randrange(10_000) for _ in range(5000)]
    assert sum(counts(scan.touch(pages))) <= 1.01 * len(set(pages))


RUNS = st.lists(
    st.tuples(st.integers(0, PAGES - 1), st.integers(1, 40), st.sampled_from((2, 3, 7, -2, -5)), st.booleans()),
    min_size=1, max_size=12,
)  # fmt: skip


@given(RUNS)
@examples(20)
def test_whatever_the_strides_the_bytes_are_what_was_stored(runs):
    check_bytes(runs, frames=40)


def test_a_strided_pass_over_swapped_pages_has_few_faults():
    shell = Shell(make_core(frames=128, low=4, high=12, devices=(("swap0", 2048),)), check=False)
    process = shell.attach(alloc="readahead(pages=16)", evict="lru")
    region = shell.map(process, 1024)
    for page in range(1024):
        shell.put(process, region, page, bytes([page % 251]) * PAGE)
    before = shell.counters()["major_faults"]
    for page in range(0, 1024, 16):
        assert shell.get(process, region, page) == bytes([page % 251]) * PAGE
    assert shell.counters()["major_faults"] - before <= 16
