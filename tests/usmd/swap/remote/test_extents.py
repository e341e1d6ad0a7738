"""Extents: when their strings are to be made and deleted, and which names are never used again."""

from usmd.swap.remote.extents import TELLINGS, Extents


def key(extent, edition):
    return f"usmd:test:{{owner.{extent}}}:{edition}"


def make(slots, size):
    return Extents(slots, size, "usmd:test:", "owner")


def made(extents, *slots):
    """Write slots as a device does."""
    extents.hold(slots)
    for extent in {slot // extents.size for slot in slots}:
        extents.is_made(extent)


def test_an_extent_is_to_be_deleted_once_its_last_slot_is_given_up_and_gets_another_name():
    extents = make(20, 8)
    assert extents.count == 3
    made(extents, 7, 8, 9)
    assert (extents.made, extents.existing()) == (2, [key(0, 0), key(1, 0)])
    assert not extents.give_up([8])
    assert extents.give_up([9, 9, 8])
    assert (extents.made, extents.existing(), extents.unwanted()) == (1, [key(0, 0)], [key(1, 0)])
    assert (extents.exists(1), extents.key(1)) == (False, key(1, 1))
    extents.are_deleted([key(1, 0)])
    assert extents.unwanted() == []


def test_a_slot_that_is_held_for_a_write_keeps_its_extent():
    extents = make(16, 8)
    made(extents, 3)
    extents.hold([3, 4])
    assert not extents.give_up([3])
    assert extents.exists(0)
    assert extents.give_up([4])
    assert not extents.exists(0)


def test_an_extent_without_a_string_leaves_nothing_to_delete():
    extents = make(16, 8)
    extents.hold([1])
    assert not extents.give_up([1, 2])
    assert extents.unwanted() == []


def test_a_doubtful_extent_gets_its_next_name_and_the_old_one_is_deleted_several_times():
    extents = make(8, 8)
    made(extents, 0)
    extents.doubt(0)
    assert extents.is_doubtful(0)
    assert extents.next_key(0) == key(0, 1)
    extents.is_renamed(0)
    assert (extents.key(0), extents.exists(0), extents.is_doubtful(0)) == (key(0, 1), True, False)
    for _ in range(TELLINGS):
        assert extents.unwanted() == [key(0, 0)]
        extents.are_deleted(extents.unwanted())
    assert extents.unwanted() == []


def test_a_doubtful_extent_that_is_given_up_is_deleted_several_times():
    extents = make(8, 8)
    made(extents, 0)
    extents.doubt(0)
    extents.give_up([0])
    for _ in range(TELLINGS):
        extents.are_deleted(extents.unwanted())
    assert (extents.unwanted(), extents.is_doubtful(0), extents.made) == ([], False, 0)


def test_a_string_that_may_have_been_made_is_never_used():
    extents = make(8, 8)
    extents.hold([0])
    extents.doubt(0)
    assert (extents.exists(0), extents.is_doubtful(0), extents.key(0)) == (False, False, key(0, 1))
    assert extents.unwanted() == [key(0, 0)]


def test_a_string_that_is_gone_has_no_successor_of_its_name():
    extents = make(8, 8)
    made(extents, 0)
    extents.is_gone(0)
    extents.is_gone(0)
    assert (extents.made, extents.exists(0), extents.key(0)) == (0, False, key(0, 1))
    assert extents.unwanted() == [key(0, 0)]
