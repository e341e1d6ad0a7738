import pytest

from usmd.core.level import level
from usmd.core.region import Process


def process_with(weight):
    process = Process(1, "app", None, None, None)
    process.weight = weight
    return process


@pytest.mark.parametrize(
    ("standings", "wanted", "given"),
    [
        ([], 3, []),
        ([(10, 100), (4, 100)], 3, [3]),
        ([(10, 100), (4, 100)], 8, [7, 1]),
        ([(4, 100), (10, 100)], 100, [10, 4]),
        ([(10, 200), (10, 100)], 5, [5]),
        ([(10, 100), (10, 100)], 1, [1, 1]),
        ([(0, 100)], 1, []),
        ([(5, 100)], -1, []),
    ],
)
def test_those_furthest_above_their_share_give_until_they_stand_alike(standings, wanted, given):
    assert [pages for _, pages in level([(above, process_with(w)) for above, w in standings], wanted)] == given
