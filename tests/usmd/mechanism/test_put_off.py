"""Ranges that work was put off for, and what is left when a part of one is done otherwise."""

import pytest

from usmd.mechanism.put_off import cut

REGION, OTHER = 3, 4


@pytest.mark.parametrize(
    ("offset", "length", "outside", "inside"),
    [
        (0, 10, [(REGION, 10, 10)], []),
        (10, 10, [], [(REGION, 10, 10)]),
        (0, 100, [], [(REGION, 10, 10)]),
        (5, 10, [(REGION, 15, 5)], [(REGION, 10, 5)]),
        (15, 10, [(REGION, 10, 5)], [(REGION, 15, 5)]),
        (12, 4, [(REGION, 10, 2), (REGION, 16, 4)], [(REGION, 12, 4)]),
    ],
)
def test_a_range_is_cut_by_another_of_its_region(offset, length, outside, inside):
    others = [(OTHER, 10, 10)]
    assert cut([(REGION, 10, 10), *others], REGION, offset, length) == ([*outside, *others], inside)
