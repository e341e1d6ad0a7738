"""Pins are counted by page, and those of a range without a look at each page."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.core.pin_counts import PinCounts

PAGE = st.integers(0, 3000)


@examples(60)
@given(st.lists(PAGE, max_size=40), st.lists(st.tuples(PAGE, PAGE), min_size=1, max_size=5))
def test_a_range_has_as_many_pinned_pages_as_there_are_in_it(pages, ranges):
    counts = PinCounts()
    for page in pages:
        counts.add(page)
    assert len(counts) == len(set(pages))
    for first, end in ((min(pair), max(pair) + 1) for pair in ranges):
        assert counts.pages(first, end) == sum(first <= page < end for page in set(pages))


def test_a_page_is_pinned_until_as_many_pins_have_ended():
    counts = PinCounts()
    assert [counts.add(7), counts.add(7)] == [1, 2]
    assert 7 in counts
    assert [counts.remove(7), 7 in counts, counts.remove(7), 7 in counts] == [1, True, 0, False]


def test_all_pins_of_a_page_may_end_at_once():
    counts = PinCounts()
    counts.add(7)
    counts.add(7)
    counts.forget(7)
    assert (len(counts), counts.pages(0, 1 << 20)) == (0, 0)
