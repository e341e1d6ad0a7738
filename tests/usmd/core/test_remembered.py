"""Ghost lists: what was evicted, within a bound, and what comes back of it."""

from usmd.core.remembered import Remembered, Returning


def test_the_newest_are_remembered_within_the_limit():
    ghosts = Remembered()
    for page in range(5):
        ghosts.remember(page, 3)
    assert list(ghosts.pages) == [2, 3, 4]
    ghosts.remember(9, 2)
    assert list(ghosts.pages) == [4, 9], "the limit became smaller"
    ghosts.remember(10, 0)
    assert list(ghosts.pages) == []


def test_a_page_that_was_remembered_is_expected_once_and_comes_once():
    ghosts, returning = Remembered(), Returning(4)
    ghosts.remember(7, 3)
    assert not returning.expect(8, ghosts)
    assert returning.expect(7, ghosts)
    assert list(ghosts.pages) == []
    assert not returning.expect(7, ghosts)
    assert returning.came(7)
    assert not returning.came(7)


def test_pages_that_never_come_are_given_up_at_the_bound():
    ghosts, returning = Remembered(), Returning(2)
    for page in range(5):
        ghosts.remember(page, 5)
    for page in range(3):
        assert returning.expect(page, ghosts)
    assert returning.pages == {2}
    assert list(ghosts.pages) == [3, 4]
