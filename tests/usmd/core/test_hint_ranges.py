"""Hint ranges, against a dict of pages."""

from hypothesis import given, settings
from hypothesis import strategies as st

from usmd.core.hint_ranges import HintRanges
from usmd.core.hints import Hint

PAGES = 24


@settings(deadline=None, max_examples=200)
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
