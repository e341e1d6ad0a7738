"""Arrays of consecutive numbers are those that `range` makes, one by one."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.core.consecutive import LANES, consecutive


@pytest.mark.parametrize("code", ["I", "q"])
@given(first=st.integers(0, 2**31), count=st.integers(0, 3 * LANES))
@examples(60)
def test_they_are_those_of_a_range(code, first, count):
    assert consecutive(code, first, count) == array(code, range(first, first + count))


@pytest.mark.parametrize("count", [0, 1, 63, 64, LANES - 1, LANES, LANES + 1])
@pytest.mark.parametrize(("code", "end"), [("I", 2**32), ("q", 2**63)])
def test_the_type_needs_room_for_a_run_more(code, end, count):
    first = end - count - LANES
    assert consecutive(code, first, count) == array(code, range(first, first + count))
