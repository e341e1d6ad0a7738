"""Hint ranges, against a dict of pages."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.hint_ranges import HintRanges
from usmd.core.hints import Hint

PAGES = 24


@examples(100)
@given(st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES), st.booleans()), max_size=15))
def test_the_newest_wins_on_every_page(steps):
    ranges, model = HintRanges(), {}
    for number, (first, count, clears) in enumerate(steps, 1):
        end = min(first + count, PAGES)
        ranges.set(first, end, number, None if clears else Hint(text=str(number)), None)
        for page in range(first, end):
            model[page] = None if clears else number
        for page in range(PAGES + 1):
            found = ranges.find(page)
            assert (found.number if found else None) == model.get(page)
            assert found is None or found.hint.text == str(found.number)
        edges = [(each.first, each.end) for each in ranges]
        assert edges == sorted(edges)
        assert all(one[0] < one[1] <= two[0] for one, two in zip(edges, [*edges, (PAGES, PAGES)][1:], strict=True))
        assert len(ranges) == len(edges)


@examples(100)
@given(
    st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES), st.integers(0, 2)), max_size=8),
    st.integers(0, PAGES - 1),
    st.integers(1, PAGES),
)
def test_pages_are_alike_if_all_have_one_hint_that_denies_nothing_or_none(steps, first, count):
    ranges = HintRanges()
    for number, (start, pages, kind) in enumerate(steps, 1):
        ranges.set(start, start + pages, number, None if kind == 0 else Hint(text=str(number), deny=kind == 2), None)
    found = {ranges.find(page) for page in range(first, first + count)}
    expected = len(found) == 1 and all(each is None or not each.hint.deny for each in found)
    assert ranges.alike(first, first + count) is expected


def test_a_page_before_the_first_range_has_none():
    ranges = HintRanges()
    ranges.set(5, 6, 1, Hint(text="a"), None)
    assert ranges.find(4) is None


def test_ranges_expire_at_their_time_and_what_was_cut_keeps_it():
    ranges = HintRanges()
    ranges.set(0, 10, 1, Hint(text="a"), 5.0)
    ranges.set(4, 6, 2, Hint(text="b"), None)
    assert ranges.next_expiry() == 5.0
    assert ranges.take_expired(4.9) == []
    assert [(each.first, each.end) for each in ranges.take_expired(5.0)] == [(0, 4), (6, 10)]
    assert [(each.first, each.end) for each in ranges] == [(4, 6)]
    assert ranges.find(5).number == 2
    assert ranges.find(3) is None
    assert ranges.next_expiry() == float("inf")


@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(1, 8), st.booleans()), max_size=12),
    st.tuples(st.integers(0, 19), st.integers(1, 8), st.booleans()),
)
def test_growth_says_how_many_ranges_there_are_afterwards(steps, last):
    ranges = HintRanges()
    for first, length, clear in steps:
        ranges.set(first, first + length, 1, None if clear else Hint(text="a"), None)
    first, length, clear = last
    expected = len(ranges) + ranges.growth(first, first + length, clear=clear)
    ranges.set(first, first + length, 2, None if clear else Hint(text="b"), None)
    assert len(ranges) == expected


@examples(100)
@given(st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES), st.booleans()), max_size=12))
def test_what_is_left_of_a_hint_counts_together_and_with_no_other(steps):
    ranges = HintRanges()
    for number, (first, count, clears) in enumerate(steps, 1):
        ranges.set(first, min(first + count, PAGES), number, None if clears else Hint(text=str(number)), None)
    for page in range(PAGES):
        found = ranges.find(page)
        if found is not None:
            found.effects.faults += 1
    lengths = {}
    for each in ranges:
        lengths[each.number] = lengths.get(each.number, 0) + each.end - each.first
    assert {each.number: each.effects.faults for each in ranges} == lengths
    assert len({id(each.effects) for each in ranges}) == len(lengths)


def effects_of(shell, region):
    return {
        each.number: (each.effects.faults, each.effects.evictions) for each in shell.core.state.regions[region].hints
    }


def test_faults_and_evictions_count_under_the_hint_in_force_also_after_splits():
    shell = Shell(make_core(frames=4))
    process = shell.attach(evict="fifo")
    region = shell.map(process, 20)
    shell.hint(process, region, "PRIORITY=LOW", 0, 9)  # 1
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    assert effects_of(shell, region) == {1: (4, 0)}
    shell.put(process, region, 4, b"x" * PAGE)  # page 0 goes
    assert effects_of(shell, region) == {1: (5, 1)}
    shell.hint(process, region, "PRIORITY=HIGH", 2, 2)  # 2: 1 is in two parts now
    shell.put(process, region, 15, b"x" * PAGE)  # page 1 goes, for a page without a hint
    assert effects_of(shell, region) == {1: (5, 2), 2: (0, 0)}
    shell.put(process, region, 8, b"x" * PAGE)  # page 2 goes, which came in under 1
    assert effects_of(shell, region) == {1: (6, 2), 2: (0, 1)}
    assert len(shell.core.state.regions[region].hints) == 3
    shell.get(process, region, 2)
    assert effects_of(shell, region)[2] == (1, 2), "page 3 went"
    shell.get(process, region, 2)
    assert effects_of(shell, region)[2] == (1, 2), "a page that is there is no fault"
    shell.hint(process, region, "PRIORITY=LOW", 0, 9)  # 3: counts from the beginning
    assert effects_of(shell, region) == {3: (0, 0)}
    shell.hint(process, region, "DONTNEED", 0, 9)
    assert effects_of(shell, region) == {3: (0, 3)}


def test_pages_that_come_along_are_no_faults_and_cancelled_evictions_none():
    shell = Shell(make_core(frames=8), auto_io=False)
    process = shell.attach(alloc="flexible_huge_pages(pages=4)", evict="fifo")
    region = shell.map(process, 8)
    shell.hint(process, region, "PRIORITY=LOW; FHP=64B", 0, 4)
    shell.put(process, region, 0, b"x" * PAGE)
    assert shell.core.state.regions[region].resident == 4
    assert effects_of(shell, region) == {1: (1, 0)}
    shell.hint(process, region, "DONTNEED", 0, 1)
    assert shell.state_of(region, 0) == "EVICTING"
    shell.fault(process, region, 0)
    assert shell.state_of(region, 0) == "PRESENT"
    while shell.pending:
        shell.complete_io()
    assert effects_of(shell, region) == {1: (1, 0)}
    shell.do(events.Unmap(process, region))
