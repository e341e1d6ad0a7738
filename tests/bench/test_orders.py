"""The order that no policy follows."""

import pytest

from bench.orders import in_no_order


@pytest.mark.parametrize("count", [30, 1000])
def test_no_three_touches_of_the_order_are_equally_far_apart(count):
    order = [int(page) for page in in_no_order(count)]
    assert sorted(order) == list(range(count))
    for turn in (1, 2):
        assert all(c - b != b - a for a, b, c in zip(order, order[turn:], order[2 * turn :], strict=False))
