"""The pages that work has still to come to."""

from usmd.core.pages_left import PagesLeft


def test_pages_before_the_next_part_and_those_brought_in_line_early_are_not_left():
    left = PagesLeft(2, 6)
    left.next_page = 3
    left.settled.add(4)
    assert [page for page in range(8) if left.covers(page)] == [3, 5]
