"""Page keys as runs of neighbours."""

import pytest

from usmd.core.region import page_key
from usmd.mechanism.neighbours import neighbours


@pytest.mark.parametrize(
    ("pages", "runs"),
    [
        ([], []),
        ([(1, 5)], [(1, 5, 1)]),
        ([(1, 5), (1, 6), (1, 7)], [(1, 5, 3)]),
        ([(1, 5), (1, 7), (1, 6), (1, 8)], [(1, 5, 1), (1, 7, 1), (1, 6, 1), (1, 8, 1)]),
        ([(1, 6), (1, 5), (1, 7), (2, 8)], [(1, 6, 1), (1, 5, 1), (1, 7, 1), (2, 8, 1)]),
        ([(1, 5), (1, 6), (3, 0), (3, 1), (3, 3)], [(1, 5, 2), (3, 0, 2), (3, 3, 1)]),
        ([(1, 5), (1, 5), (1, 7)], [(1, 5, 1), (1, 5, 1), (1, 7, 1)]),
    ],
)
def test_neighbours_in_ascending_order_are_one_run(pages, runs):
    assert list(neighbours([page_key(*each) for each in pages])) == runs


def test_a_range_is_one_run_and_nothing_if_it_is_empty():
    first = page_key(3, 5)
    assert list(neighbours(range(first, first + 9))) == [(3, 5, 9)]
    assert list(neighbours(range(first, first))) == []
    assert list(neighbours(range(first, first + 4, 2))) == [(3, 5, 1), (3, 7, 1)]
