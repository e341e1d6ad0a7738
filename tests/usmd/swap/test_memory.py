"""What is particular to the memory device; what all devices share is in tests/contracts."""

from __future__ import annotations

import mmap

import pytest

from usmd.errors import SwapDeviceError
from usmd.swap.base import SlotIO
from usmd.swap.memory import MemorySwapDevice


def resident_kib(device):
    """Resident size of the device's mapping as the kernel counts it."""
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(device._view))
    with open("/proc/self/smaps") as smaps:
        inside = False
        for line in smaps:
            fields = line.split()
            if "-" in fields[0] and not fields[0].endswith(":"):
                low, high = (int(part, 16) for part in fields[0].split("-"))
                inside = low <= address < high
            elif inside and fields[0] == "Rss:":
                return int(fields[1])
    raise AssertionError("the mapping is not listed")


def entries(slots, page_size):
    return [SlotIO(slot, 1, slot, 1, memoryview(bytearray([slot % 255 + 1]) * page_size)) for slot in slots]


def test_memory_is_taken_as_slots_are_written_and_given_back_as_runs_are_discarded():
    device = MemorySwapDevice(number=0, name="m", slots=4096, page_size=mmap.PAGESIZE)
    device._memory.madvise(mmap.MADV_NOHUGEPAGE)  # so that a page counts as a page
    before = resident_kib(device)
    device.write(entries(range(1024), mmap.PAGESIZE))
    full = resident_kib(device)
    assert full - before >= 1024 * mmap.PAGESIZE // 1024
    device.discard(range(512))
    assert resident_kib(device) <= full - 512 * mmap.PAGESIZE // 1024
    assert device.read(entries(range(512, 1024), mmap.PAGESIZE)) == [None] * 512
    device.close()


def test_pages_smaller_than_the_kernels_lose_no_neighbour_on_discard():
    device = MemorySwapDevice(number=0, name="m", slots=64, page_size=512)
    device.write(entries(range(64), 512))
    device.discard(range(1, 63))
    assert device.read(entries([0, 63], 512)) == [None, None]
    device.close()


@pytest.mark.parametrize(("slots", "page_size"), [(2**40, 4096), (8, 2**50), (8, 2**62)])
def test_memory_that_the_kernel_does_not_grant_is_a_device_error(slots, page_size):
    with pytest.raises(SwapDeviceError, match=r"swap device m: .*make the device smaller"):
        MemorySwapDevice(number=0, name="m", slots=slots, page_size=page_size)
