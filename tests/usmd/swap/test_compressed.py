"""What is particular to compressed pages: what is refused, what is counted, and damage to what is stored."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.errors import ConfigError, DataLoss, NoRoom, Refused, SwapDeviceError
from usmd.swap.base import SlotIO
from usmd.swap.compressed import LEAST, MOST, SLAB_PAGES, CompressedKind, CompressedSwapDevice

PAGE = 4096
SLAB = SLAB_PAGES * PAGE


@pytest.fixture
def make():
    devices = []

    def build(slabs=16, page_size=PAGE):
        size = slabs * SLAB_PAGES * page_size
        devices.append(CompressedSwapDevice(number=0, name="c", size=size, page_size=page_size))
        return devices[-1]

    yield build
    for device in devices:
        device.close()


def page(seed, noise, page_size=PAGE):
    """A page of which `noise` bytes cannot be compressed."""
    return random.Random(seed).randbytes(noise) + bytes([seed & 0xFF]) * (page_size - noise)


def entry(slot, data, generation=1):
    return SlotIO(slot, 1, 1000 + slot, generation, memoryview(bytearray(data)))


def read(device, slot, generation=1, page_size=PAGE):
    target = SlotIO(slot, 1, 1000 + slot, generation, memoryview(bytearray(page_size)))
    (error,) = device.read([target])
    return error if error is not None else bytes(target.buffer)


def test_it_has_as_many_slots_as_pages_could_fit(make):
    device = make(slabs=16)
    assert device.slots == 16 * SLAB / (PAGE * LEAST)
    assert device.usage(0) == (16 * SLAB, 0, 0)


@pytest.mark.parametrize("page_size", [512, 4096, 2 << 20])
def test_pages_that_compress_take_less_than_their_size_and_come_back(make, page_size):
    device = make(slabs=4, page_size=page_size)
    pages = [page(slot, page_size // 8, page_size) for slot in range(64)]
    written = [SlotIO(slot, 1, 1000 + slot, 1, memoryview(bytearray(data))) for slot, data in enumerate(pages)]
    assert device.write(written) == [None] * 64
    usage = device.usage(64)
    assert page_size * 8 < usage.stored <= usage.held < page_size * 64 * 0.3
    assert [read(device, slot, page_size=page_size) for slot in range(64)] == pages


def test_what_does_not_compress_to_the_stated_share_is_refused(make):
    device = make()
    below, above = page(1, int(PAGE * MOST) - 64), page(2, int(PAGE * MOST) + 8)
    results = device.write([entry(0, below), entry(1, above), entry(2, page(3, PAGE))])
    assert [type(each) for each in results] == [type(None), Refused, Refused]
    assert "swap device c, slot 2: the page has 41" in str(results[2])
    assert str(results[2]).endswith("bytes compressed; at most 3072 are taken")
    assert read(device, 0) == below
    assert isinstance(read(device, 1), DataLoss)


def test_a_refused_page_leaves_nothing_of_what_its_slot_held(make):
    device = make()
    device.write([entry(0, page(1, 100))])
    (result,) = device.write([entry(0, page(2, PAGE), generation=2)])
    assert isinstance(result, Refused)
    assert device.usage(0)[1:] == (0, 0)
    assert isinstance(read(device, 0), DataLoss)


def test_a_full_device_has_no_room_until_a_slot_is_freed(make):
    device = make(slabs=1)
    pages = [page(slot, 2500) for slot in range(20)]
    results = device.write([entry(slot, data) for slot, data in enumerate(pages)])
    kept = [slot for slot, each in enumerate(results) if each is None]
    assert kept == list(range(12))
    assert {type(each) for each in results[12:]} == {NoRoom}
    assert str(results[-1]).endswith("bytes is left in 32 KiB")
    device.discard([3])
    assert device.write([entry(15, pages[15])]) == [None]
    assert [read(device, slot) for slot in (0, 11, 15)] == [pages[0], pages[11], pages[15]]


def test_reads_need_not_wait(make):
    device = make()
    data = page(1, 500)
    device.write([entry(5, data)])
    target = entry(5, bytes(PAGE))
    assert device.read_now([target]) == [None]
    assert target.buffer == data


@pytest.mark.parametrize("damage", [0, 10, 300])
def test_a_flipped_bit_of_the_compressed_bytes_is_data_loss_and_never_another_page(make, damage):
    device = make()
    device.write([entry(0, page(1, 500)), entry(1, page(2, 500))])
    device._chunks._memory[damage] ^= 4  # slot 0 was written first
    broken = [slot for slot in (0, 1) if isinstance(read(device, slot), DataLoss)]
    assert broken == [0]
    assert read(device, 1) == page(2, 500)


def test_less_than_a_slab_is_refused():
    with pytest.raises(ConfigError, match=r"swap device c: 28 KiB is too small; .* has at least 32 KiB"):
        CompressedKind(size=7 * PAGE).open(0, "c", PAGE)


def test_memory_that_the_kernel_does_not_grant_is_an_error_that_names_the_device():
    with pytest.raises(SwapDeviceError, match=r"swap device c: the kernel grants no .* use a file"):
        CompressedKind(size=1 << 60).open(0, "c", PAGE)


SLOTS = 40
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "read", "discard"]),
        st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=SLOTS, unique=True),
        st.sampled_from([0, 60, 700, 1500, 2900, PAGE]),
    ),
    max_size=30,
)


@examples(60)
@given(steps=STEPS)
def test_any_sequence_agrees_with_a_dict_and_is_counted_to_the_byte(steps):
    device = CompressedSwapDevice(number=0, name="c", size=2 * SLAB, page_size=PAGE)
    model = {}
    for generation, (what, slots, noise) in enumerate(steps):
        if what == "write":
            batch = [entry(slot, page(generation * 100 + slot, noise), generation) for slot in slots]
            for written, result in zip(batch, device.write(batch), strict=True):
                model.pop(written.slot, None)
                if result is None:
                    model[written.slot] = written
                else:
                    assert type(result) is (Refused if noise == PAGE else NoRoom)
        elif what == "discard":
            device.discard(slots)
            for slot in slots:
                model.pop(slot, None)
        else:
            for slot in slots:
                found = read(device, slot, model[slot].generation if slot in model else 1)
                assert found == model[slot].buffer if slot in model else isinstance(found, DataLoss)
        usage = device.usage(len(model))
        assert usage.stored == sum(len(device._chunks.get(slot)) for slot in model)
        assert usage.stored <= usage.held <= usage.capacity == 2 * SLAB
        assert (usage.held == 0) == (not model)
    device.close()
