"""When hints expire: each region's turn comes by the time of its first hint, and no other region is looked at."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from usmd.core.hint_ends import STALE, HintEnds

TIMES = st.integers(0, 9).map(float)
REGIONS = st.integers(1, 5)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), REGIONS, TIMES),
            st.tuples(st.just("drop"), REGIONS),
            st.tuples(st.just("take"), TIMES),
        )
    )
)
def test_it_is_as_a_table_of_the_first_time_of_each_region(steps):
    ends, first = HintEnds(), {}
    for what, *values in steps:
        if what == "put":
            region, time = values
            ends.put(region, time)
            first[region] = min(time, first.get(region, inf))
        elif what == "drop":
            ends.drop(values[0])
            first.pop(values[0], None)
        else:
            (now,) = values
            due = sorted(region for region, time in first.items() if time <= now)
            assert ends.take(now) == due
            for region in due:
                del first[region]
        assert ends.next <= min(first.values(), default=inf)


def test_a_region_that_has_no_more_hints_that_expire_has_no_turn():
    ends = HintEnds()
    ends.put(1, inf)
    assert ends.take(1e9) == []
    assert ends.next == inf


def test_hints_that_each_end_before_the_last_one_take_no_more_and_more_memory():
    ends = HintEnds()
    for time in range(10_000, 0, -1):
        ends.put(1, float(time))
    assert len(ends._heap) <= 2 + STALE
    assert ends.take(1.0) == [1]
    assert ends.take(1e9) == []


def test_a_region_that_is_gone_has_no_turn_and_a_new_one_of_its_number_has():
    ends = HintEnds()
    ends.put(1, 5.0)
    ends.drop(1)
    ends.put(1, 7.0)
    assert ends.take(6.0) == []
    assert ends.take(7.0) == [1]
