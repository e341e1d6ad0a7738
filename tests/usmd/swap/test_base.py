"""What the base class promises for every device, seen through the smallest device there is."""

from __future__ import annotations

import threading

import pytest

from usmd.errors import DataLoss, InvalidArgument, OutOfRange, SwapDeviceError, SwapIOError
from usmd.swap.base import MAX_DEVICES, SlotIO, SwapDevice

SIZE = 512


class DictDevice(SwapDevice):
    kind = "dict"

    def __init__(self, number=0, slots=8, page_size=SIZE):
        super().__init__(number=number, name="dict0", path=None, slots=slots, page_size=page_size)
        self.kept = {}
        self.fail = set()
        self.closes = 0
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def _store(self, batch):
        self.started.set()
        assert self.go_on.wait(90)
        results = []
        for entry in batch:
            self.kept[entry.slot] = bytes(entry.buffer)
            results.append(SwapIOError("broken") if entry.slot in self.fail else None)
        return results

    def _fetch(self, batch):
        for entry in batch:
            entry.buffer[:] = self.kept[entry.slot]
        return [SwapIOError("broken") if entry.slot in self.fail else None for entry in batch]

    def _close(self):
        self.closes += 1


def entry(slot, fill=0, generation=1):
    return SlotIO(slot, 1, 100 + slot, generation, memoryview(bytearray([fill]) * SIZE))


def test_a_failed_write_leaves_the_slot_empty_not_with_its_former_bytes():
    device = DictDevice()
    assert device.write([entry(3, 1)]) == [None]
    device.fail = {3}
    (result,) = device.write([entry(3, 2, generation=2)])
    assert isinstance(result, SwapIOError)
    device.fail = set()
    assert [type(r) for r in device.read([entry(3), entry(3, generation=2)])] == [DataLoss, DataLoss]


def test_a_device_that_raises_leaves_its_slots_empty_and_can_be_closed():
    device = DictDevice()
    device.write([entry(3, 1)])
    device._store = lambda batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        device.write([entry(3, 1)])
    assert [type(r) for r in device.read([entry(3)])] == [DataLoss]
    device.close()
    assert device.closes == 1


def test_an_io_error_on_read_is_not_replaced_by_data_loss():
    device = DictDevice()
    device.write([entry(1, 1), entry(2, 2)])
    device.fail = {1}
    assert [type(r) for r in device.read([entry(1), entry(2)])] == [SwapIOError, type(None)]


def test_empty_slots_are_not_fetched():
    device = DictDevice()
    device.write([entry(1, 1)])
    good = entry(1)
    first, second, third = device.read([entry(0), good, entry(2)])
    assert isinstance(first, DataLoss)
    assert second is None
    assert isinstance(third, DataLoss)
    assert bytes(good.buffer) == bytes([1]) * SIZE


def test_errors_name_device_slot_and_key():
    device = DictDevice()
    device.write([entry(5, 1)])
    device.kept[5] = bytes(SIZE)
    (changed,) = device.read([entry(5, generation=9)])
    assert str(changed) == (
        "swap device dict0, slot 5: its bytes are not those written for process 1, page 0x69; the page is lost"
    )
    (empty,) = device.read([entry(6)])
    assert str(empty) == "swap device dict0, slot 6: nothing is written in it; the page is lost"


def test_an_empty_batch_is_no_work():
    device = DictDevice()
    assert device.write([]) == []
    assert device.read([]) == []


@pytest.mark.parametrize("slot", [-1, 8])
def test_a_slot_outside_the_device_is_refused_before_anything_is_touched(slot):
    device = DictDevice()
    for act in (
        lambda: device.write([entry(0), entry(slot)]),
        lambda: device.read([entry(0), entry(slot)]),
        lambda: device.discard([0, slot]),
    ):
        with pytest.raises(OutOfRange, match=rf"slot {slot}: the device has slots 0 to 7"):
            act()
    assert device.kept == {}


def test_a_buffer_of_another_size_is_refused():
    device = DictDevice()
    with pytest.raises(InvalidArgument, match=r"slot 0: a buffer of 511 bytes; a slot takes exactly 512"):
        device.write([SlotIO(0, 1, 1, 1, memoryview(bytearray(SIZE - 1)))])


@pytest.mark.parametrize("arguments", [{"number": -1}, {"number": MAX_DEVICES}, {"slots": 0}, {"page_size": 0}])
def test_a_device_without_a_number_or_room_is_refused(arguments):
    with pytest.raises(InvalidArgument, match="swap device dict0"):
        DictDevice(**arguments)


def test_more_slots_than_memory_has_room_to_check_is_a_device_error():
    with pytest.raises(SwapDeviceError, match="make the device smaller"):
        DictDevice(slots=2**62)


def test_close_waits_for_the_jobs_under_way():
    device = DictDevice()
    device.go_on.clear()
    results = []
    writer = threading.Thread(target=lambda: results.extend(device.write([entry(1, 1)])))
    writer.start()
    assert device.started.wait(90)
    closer = threading.Thread(target=device.close)
    closer.start()
    while not device._closed:
        closer.join(0.001)
    assert device.closes == 0
    assert [type(r) for r in device.write([entry(2)])] == [SwapIOError]
    device.go_on.set()
    writer.join(90)
    closer.join(90)
    assert results == [None]
    assert device.closes == 1


def test_a_device_that_says_nothing_of_it_cannot_be_read_without_waiting():
    device = DictDevice()
    device.write([entry(1, 1)])
    assert device.read_now([entry(1)]) is None
    target = entry(1)
    assert device.read([target]) == [None]
    assert bytes(target.buffer) == bytes([1]) * SIZE


def test_errors_of_what_is_read_without_waiting_stay_what_they_are():
    device = DictDevice()
    device.write([entry(1, 1), entry(2, 2), entry(3, 3)])
    device.kept[3] = bytes(SIZE)
    device.fail = {1}
    device._fetch_now = device._fetch
    results = device.read_now([entry(1), entry(2), entry(3)])
    assert [type(result) for result in results] == [SwapIOError, type(None), DataLoss]


def test_close_waits_also_for_a_read_that_does_not_wait():
    device = DictDevice()
    device.write([entry(1, 1)])
    closer = threading.Thread(target=device.close)

    def fetch_now(batch):
        closer.start()
        while not device._closed:
            closer.join(0.001)
        assert device.closes == 0
        return device._fetch(batch)

    device._fetch_now = fetch_now
    assert device.read_now([entry(1)]) == [None]
    closer.join(90)
    assert device.closes == 1
    assert device.read_now([entry(1)]) is None


def test_a_device_that_does_not_say_otherwise_holds_whole_pages():
    device = DictDevice()
    assert device.usage(3) == (device.slots * SIZE, 3 * SIZE, 3 * SIZE)
