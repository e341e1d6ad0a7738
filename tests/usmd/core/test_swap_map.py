"""Slots and devices."""

import pytest

from usmd.core.settings import DeviceInfo
from usmd.core.swap_map import GONE, RETIRING, SLOT_BITS, SLOT_MASK, SwapMap
from usmd.errors import InvalidHint, SwapIOError


@pytest.fixture
def swap():
    return SwapMap([DeviceInfo("fast", 2), DeviceInfo("slow", 3)])


def test_slots_come_from_the_preferred_device_then_from_the_first_that_has_one(swap):
    assert [swap.take(1, 0.0) >> SLOT_BITS for _ in range(5)] == [1, 1, 1, 0, 0]
    assert swap.take(1, 0.0) is None
    assert (swap.slots, swap.free) == (5, 0)


def test_a_preferred_device_that_does_not_exist_is_ignored(swap):
    assert [swap.take(number, 0.0) >> SLOT_BITS for number in (7, -1)] == [0, 0]


def test_a_slot_taken_again_has_another_generation(swap):
    first = swap.take(0, 0.0)
    generation = swap.generation(first)
    swap.give_back(first)
    other, again = swap.take(0, 0.0), swap.take(0, 0.0)
    assert (again & SLOT_MASK, other & SLOT_MASK) == (0, 1), "slots go round before they come again"
    assert swap.generation(again) == generation + 1


def test_a_generation_wraps(swap):
    swap.devices[0].generation[0] = (1 << 8 * swap.devices[0].generation.itemsize) - 1
    assert swap.generation(swap.take(0, 0.0)) == 0


def test_when_a_page_was_stored_is_known_by_its_slot(swap):
    first = swap.take(0, 1.0)
    assert swap.stored_at(first, 1.5) == 1.5, "as of the first question"
    second = swap.take(0, 2.5)
    assert (swap.stored_at(first, 3.0), swap.stored_at(second, 3.0)) == (1.5, 2.5)
    swap.give_back(first)
    assert swap.stored_at(swap.take(0, 4.0), 5.0) == 4.0


def test_how_full_a_device_is_is_what_the_shell_says_else_its_slots_in_use(swap):
    device = swap.devices[0]
    swap.take(0, 0.0)
    assert device.share == 0.5
    device.held = 0.9
    assert device.share == 0.9
    device.full = True
    assert device.share == 1.0


def test_the_first_device_that_takes_a_page(swap):
    assert swap.first(0.0) == 0
    swap.devices[0].full = True
    assert swap.first(0.0) == 1
    swap.devices[1].rests_until = 2.0
    assert (swap.first(1.0), swap.first(2.0)) == (None, 1)


def test_a_device_that_rests_takes_no_writes(swap):
    swap.devices[0].rests_until = 5.0
    assert swap.writable(4.9) == 3
    assert swap.take(0, 4.9) >> SLOT_BITS == 1
    assert swap.writable(5.0) == 4
    assert swap.take(0, 5.0) >> SLOT_BITS == 0


def test_a_slot_of_a_certain_device_is_of_no_other(swap):
    while swap.devices[1].free:
        assert swap.take_from(1, 0.0) >> SLOT_BITS == 1
    assert swap.take_from(1, 0.0) is None
    swap.devices[0].rests_until = 5.0
    assert swap.take_from(0, 4.0) is None
    assert swap.take_from(0, 5.0) >> SLOT_BITS == 0


def test_devices_are_found_by_name_or_number(swap):
    assert [swap.number_of(name) for name in ("fast", "1", "slow", "2", "")] == [0, 1, 1, None, None]


def test_no_devices_take_nothing():
    empty = SwapMap([])
    assert (empty.slots, empty.free, empty.take(None, 0.0)) == (0, 0, None)


def test_a_device_without_room_takes_nothing_until_a_slot_that_held_a_page_is_freed(swap):
    taken, refused = swap.take(0, 0.0), swap.take(0, 0.0)
    swap.devices[0].refused(refused & SLOT_MASK)
    swap.devices[0].full = True
    assert (swap.devices[0].free, swap.writable(0.0), swap.take_from(0, 0.0)) == (1, 3, None)
    assert swap.take(0, 0.0) >> SLOT_BITS == 1
    swap.give_back(taken)
    assert (swap.devices[0].free, swap.writable(0.0)) == (2, 4)
    assert swap.take(0, 0.0) >> SLOT_BITS == 0


def test_a_device_without_room_is_not_waited_for(swap):
    swap.devices[0].rests_until = 5.0
    assert swap.recovering(0.0)
    swap.devices[0].full = True
    assert not swap.recovering(0.0)


@pytest.mark.parametrize(("forbidden", "device"), [(0b00, 0), (0b01, 1), (0b10, 0)])
def test_a_forbidden_device_is_passed_over_also_when_it_is_preferred(swap, forbidden, device):
    assert swap.take(0, 0.0, forbidden) >> SLOT_BITS == device
    assert swap.take(None, 0.0, forbidden) >> SLOT_BITS == device
    assert swap.take(0, 0.0, 0b11) is None


def test_a_device_that_is_retiring_takes_nothing_and_is_not_waited_for(swap):
    swap.take(1, 0.0)
    swap.devices[0].status = RETIRING
    assert (swap.take_from(0, 0.0), swap.take(0, 0.0) >> SLOT_BITS) == (None, 1)
    assert (swap.writable(0.0), swap.room()) == (swap.devices[1].free,) * 2
    swap.devices[0].rests_until = 5.0
    assert not swap.recovering(0.0)
    assert swap.named("fast") == 0


def test_a_device_that_is_gone_has_no_name_and_its_number_is_free(swap):
    swap.remove(0)
    assert (swap.number_of("fast"), swap.number_of("0"), swap.slots) == (None, None, swap.devices[1].slots)
    with pytest.raises(InvalidHint, match=r"'fast' does not exist; allowed are 1 \(slow\)"):
        swap.named("fast")
    swap.add(0, DeviceInfo("fast", 5))
    swap.add(3, DeviceInfo("far", 1))
    assert [(each.name, each.slots, each.status) for each in swap.devices[2:]] == [("", 0, GONE), ("far", 1, 0)]
    assert (swap.take(0, 0.0), swap.named("3")) == (0, 3)


def test_pages_in_a_row_that_cannot_be_read_are_counted(swap):
    device = swap.devices[0]
    for error, unread in ((SwapIOError("no"), 1), (SwapIOError("gone"), 2), (None, 0)):
        device.left(error)
        assert device.unread == unread
    assert device.error == "gone"
