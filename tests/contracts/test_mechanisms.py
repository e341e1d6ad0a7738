"""What every mechanism does with the bytes of pages, whatever keeps them; add a maker to MAKERS to have it run.

Pages are on frames in another order than their own. Where a client maps the region, what it sees is compared too.
"""

import os
import random

import pytest

from tests.support.real_memory import require_real_memory
from tests.support.waiting import wait_until
from tests.usmd.mechanism.mapped import Client, read, write
from usmd.core.commands import SlotPage
from usmd.core.events import PROTECTED, PageFault
from usmd.core.region import page_key
from usmd.errors import DataLoss
from usmd.mechanism.base import Mechanism
from usmd.mechanism.simulated import SimulatedMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory

REGION = 3
PAGES = 8
FRAMES = (3, 7, 1, 0, 6, 2, 5, 4)
"""The frame of each page."""


class World:
    """A mechanism with a region of PAGES pages, all absent, and the client that maps it, if one does."""

    client = None

    def __init__(self, memory, page_size):
        self.memory = memory
        self.page_size = page_size
        self.memfd = -1
        memory.add_region(REGION, 1, PAGES)

    def zero(self, *pages):
        self.memory.zero([FRAMES[page] for page in pages], [page_key(REGION, page) for page in pages])

    def protect(self, *pages):
        return list(self.memory.protect([FRAMES[page] for page in pages], [page_key(REGION, page) for page in pages]))

    def store(self, page, offset, data, pages=1):
        frames = FRAMES[page : page + pages]
        return self.memory.store(frames, page_key(REGION, page), offset, memoryview(data))

    def load(self, page, offset, length, pages=1):
        return self.memory.load(FRAMES[page : page + pages], page_key(REGION, page), offset, length)

    def page(self, page):
        """The bytes of a page that is present."""
        loaded = self.load(page, 0, self.page_size)
        if self.client is not None:
            assert read(self.address + page * self.page_size, self.page_size).result() == loaded
        return loaded

    def slot_page(self, page, writable=False):
        return SlotPage(page, FRAMES[page], 1, page_key(REGION, page), 1, writable)

    def fill(self, contents, errors=None, writable=False):
        """Bring pages in: bytes by page. Returns what `fill` does."""
        stage = self.memory.stage([self.slot_page(page, writable) for page in contents])
        for slot_page, buffer in zip(stage.pages, stage.buffers, strict=True):
            buffer[:] = contents[slot_page.page - page_key(REGION, 0)]
        return list(self.memory.fill(stage, errors or [None] * len(contents)))

    def held(self):
        """Bytes that the region takes, where that can be told, else None."""
        return os.fstat(self.memfd).st_blocks * 512 if self.memfd >= 0 else None

    def close(self):
        if self.client is not None:
            self.client.close()
        self.memory.close()
        if self.memfd >= 0:
            os.close(self.memfd)


def make_simulated(page_size):
    return World(SimulatedMemory(PAGES, page_size), page_size)


def make_unmapped(page_size):
    require_real_memory()
    world = World(UserfaultfdMemory(page_size), page_size)
    world.memfd = os.dup(world.memory.region(REGION).memfd)
    return world


def make_mapped(page_size):
    world = make_unmapped(page_size)
    world.client = Client(page_size)
    world.address = world.client.map(world.memfd, PAGES * page_size)
    world.memory.connect(world.memory.region(REGION), world.client.memory, world.address)
    return world


MAKERS = {"simulated": make_simulated, "unmapped": make_unmapped, "mapped": make_mapped}
SIZES = [("simulated", 512), *((maker, size) for maker in MAKERS for size in (4096, 65536))]


@pytest.fixture(params=SIZES, ids=lambda param: f"{param[0]}-{param[1]}")
def world(request):
    maker, page_size = request.param
    made = MAKERS[maker](page_size)
    yield made
    made.close()


@pytest.fixture
def page_size(world):
    return world.page_size


@pytest.fixture
def full(world):
    """A world with all pages present."""
    world.zero(*range(PAGES))
    return world


def test_it_is_a_mechanism_with_a_name(world):
    assert isinstance(world.memory, Mechanism)
    assert world.memory.name.isidentifier()


def test_pages_are_zero_at_first(full, page_size):
    assert full.load(0, 0, PAGES * page_size, PAGES) == bytes(PAGES * page_size)
    assert [full.page(page) for page in range(PAGES)] == [bytes(page_size)] * PAGES


def test_what_is_stored_is_loaded_and_no_other_page_changes(full, page_size):
    assert full.store(3, 5, b"hello") == 5
    assert full.load(3, 4, 7) == b"\0hello\0"
    assert full.page(3)[4:11] == b"\0hello\0"
    for page in (0, 1, 2, 4, 5, 6, 7):
        assert full.page(page) == bytes(page_size)


def test_bytes_cross_pages_in_the_order_of_the_pages_not_of_the_frames(full, page_size):
    data = bytes(range(1, 201)) * (page_size // 100)
    assert full.store(4, page_size - 100, data[: page_size + 200], 3) == page_size + 200
    assert full.load(4, page_size - 100, page_size + 200, 3) == data[: page_size + 200]
    assert full.page(5) == data[100 : page_size + 100]
    assert full.page(6)[:101] == data[page_size + 100 : page_size + 200] + b"\0"


def test_a_store_ends_with_the_last_page_given(full, page_size):
    assert full.store(2, page_size - 3, b"abcdef") == 3
    assert full.store(2, 0, b"abc", 0) == 0
    assert full.load(2, 0, 0, 0) == b""
    assert full.page(2) == bytes(page_size - 3) + b"abc"
    assert full.page(3) == bytes(page_size)


def test_a_load_is_a_copy(full):
    full.store(0, 0, b"old")
    loaded = full.load(0, 0, 3)
    full.store(0, 0, b"new")
    assert loaded == b"old"


def test_many_random_stores_are_what_a_plain_array_says(full, page_size):
    random_ = random.Random(7)
    plain = bytearray(PAGES * page_size)
    for _ in range(300):
        offset = random_.randrange(len(plain))
        data = random_.randbytes(random_.randint(1, min(4 * page_size, len(plain) - offset)))
        first, last = offset // page_size, (offset + len(data) - 1) // page_size
        assert full.store(first, offset % page_size, data, last - first + 1) == len(data)
        plain[offset : offset + len(data)] = data
        assert full.load(first, offset % page_size, len(data), last - first + 1) == data
    assert full.load(0, 0, len(plain), PAGES) == bytes(plain)
    assert b"".join(full.page(page) for page in range(PAGES)) == bytes(plain)


def test_zero_makes_exactly_these_pages_zero(full, page_size):
    for page in range(PAGES):
        full.store(page, 0, b"x" * page_size)
    full.memory.release([page_key(REGION, 0), page_key(REGION, 5)])  # a page that comes in has left before
    full.zero(0, 5)
    kept = [page for page in range(PAGES) if full.page(page) == b"x" * page_size]
    assert kept == [1, 2, 3, 4, 6, 7]
    assert full.page(0) == full.page(5) == bytes(page_size)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_protect_tells_zero_pages_from_those_with_a_single_byte(full, page_size, place):
    offset = {"first": 0, "middle": page_size // 2, "last": page_size - 1}[place]
    full.store(4, offset, b"\1")
    assert full.protect(3, 4, 5) == [True, False, True]
    assert full.protect(5, 7, 4) == [True, True, False]
    assert full.protect(4) == [False]
    assert full.protect() == []


def test_a_source_is_the_bytes_of_its_page(full, page_size):
    data = random.Random(1).randbytes(page_size)
    full.store(6, 0, data)
    full.protect(6)
    with full.memory.source(full.slot_page(6)) as source:
        assert source.nbytes == page_size
        assert bytes(source) == data
    with full.memory.source(full.slot_page(7)) as source:
        assert bytes(source) == bytes(page_size)


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("pages", [(5,), (1, 2, 3), (6, 0, 3, 2), tuple(range(PAGES))])
def test_what_is_read_into_a_stage_is_in_the_pages_after_the_fill(world, page_size, pages, writable):
    random_ = random.Random(2)
    contents = {page: random_.randbytes(page_size) for page in pages}
    assert world.fill(contents, writable=writable) == [None] * len(pages)
    assert {page: world.page(page) for page in pages} == contents


def test_pages_of_one_stage_may_be_for_reading_and_for_writing(world, page_size):
    stage = world.memory.stage([world.slot_page(page, writable=page % 2 == 0) for page in range(4)])
    for number, buffer in enumerate(stage.buffers):
        buffer[:] = bytes([number + 1]) * page_size
    assert list(world.memory.fill(stage, [None] * 4)) == [None] * 4
    assert [world.page(page) for page in range(4)] == [bytes([n]) * page_size for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("damaged", [{0}, {1}, {3}, {0, 2}, {0, 1, 2, 3}])
def test_an_error_keeps_its_page_out_and_no_other(world, page_size, damaged):
    errors = [DataLoss(f"page {page}") if page in damaged else None for page in range(4)]
    assert world.fill({page: bytes([page + 1]) * page_size for page in range(4)}, errors) == errors
    for page in set(range(4)) - damaged:
        assert world.page(page) == bytes([page + 1]) * page_size
    if world.held() is not None:
        assert world.held() == (4 - len(damaged)) * page_size  # nothing of the others is anywhere


@pytest.mark.parametrize("give_back", ["fill", "unstage"])
def test_buffers_of_a_stage_are_given_back(world, page_size, give_back):
    stage = world.memory.stage([world.slot_page(2), world.slot_page(1)])
    assert [buffer.nbytes for buffer in stage.buffers] == [page_size, page_size]
    assert not any(buffer.readonly for buffer in stage.buffers)
    if give_back == "fill":
        world.memory.fill(stage, [None, None])
    else:
        world.memory.unstage(stage)
    for buffer in stage.buffers:
        with pytest.raises(ValueError, match="released"):
            bytes(buffer)
    if give_back == "unstage" and world.held() is not None:
        assert world.held() == 0


def test_two_stages_at_a_time_do_not_meet(world, page_size):
    stages = [world.memory.stage([world.slot_page(page)]) for page in (1, 2)]
    for value, stage in zip(b"ab", stages, strict=True):
        stage.buffers[0][:] = bytes([value]) * page_size
    for stage in stages:
        assert list(world.memory.fill(stage, [None])) == [None]
    assert (world.page(1), world.page(2)) == (b"a" * page_size, b"b" * page_size)


def test_a_page_goes_out_and_comes_back(full, page_size):
    data = random.Random(3).randbytes(page_size)
    full.store(2, 0, data)
    assert full.protect(2) == [False]
    with full.memory.source(full.slot_page(2)) as source:
        slot = bytes(source)
    full.memory.release([page_key(REGION, 2)])
    assert full.fill({2: slot}) == [None]
    assert full.page(2) == data


def test_what_is_released_takes_no_memory_and_its_next_touch_is_told(full, page_size):
    full.protect(2, 3)
    before = full.held()
    full.memory.release([page_key(REGION, 2), page_key(REGION, 3)])
    if before is not None:
        assert full.load(2, 0, 1) == b"\0"
        assert full.load(3, 0, 1) == b"\0"
    if full.client is None:
        return
    full.memory.release([page_key(REGION, 2), page_key(REGION, 3)])
    assert full.held() == before - 2 * page_size
    for page, doing in ((2, read), (3, lambda address: write(address, b"w"))):
        touch = doing(full.address + page * page_size)
        (fault,) = full.client.faults()
        assert fault == PageFault(REGION, page, page == 3)
        assert not touch.done
        full.zero(page)
        touch.result()
    assert full.page(3) == b"w" + bytes(page_size - 1)


@pytest.mark.parametrize("pages", [(4,), (4, 5)])
def test_what_is_restored_keeps_its_bytes_and_can_be_written_to(full, page_size, pages):
    keys = [page_key(REGION, page) for page in pages]
    for page in pages:
        full.store(page, 0, b"kept")
    assert full.protect(*pages) == [False] * len(pages)
    if full.client is not None:
        touch = write(full.address + 4 * page_size + 8, b"late")
        assert full.client.faults() == [PageFault(REGION, 4, True, PROTECTED)]
        full.memory.restore(keys, [False] * len(keys))  # goes on, and is told again
        assert full.client.faults() == [PageFault(REGION, 4, True, PROTECTED)]
        full.memory.restore(keys, [True] * len(keys))
        touch.result()
    else:
        full.memory.restore(keys, [True] * len(keys))
        full.store(4, 8, b"late")
    assert full.page(4)[:16] == b"kept\0\0\0\0late\0\0\0\0"


@pytest.mark.parametrize("ended", [False, True])
def test_of_a_region_that_is_gone_nothing_is_left_and_later_commands_harm_nobody(full, page_size, ended):
    staged = full.memory.stage([full.slot_page(1), full.slot_page(2)])
    full.memory.add_region(REGION + 1, 1, 1)
    full.memory.drop_regions([REGION], ended=ended)
    full.memory.drop_regions([REGION], ended=ended)
    wait_until(lambda: full.held() in (0, None), "the memory of the region returns")  # its holes are punched aside
    keys = [page_key(REGION, page) for page in range(PAGES)]
    assert list(full.memory.fill(staged, [None, None])) == [None, None]
    full.memory.source(full.slot_page(1)).release()
    full.memory.restore(keys, [True] * PAGES)
    full.memory.wake(keys)
    full.memory.zero(FRAMES, keys)
    full.memory.release(keys)
    full.memory.tick()
    assert len(full.protect(*range(PAGES))) == PAGES
    assert full.held() in (0, None)
    full.memory.drop_regions([REGION + 1], ended=ended)


def test_ticks_without_anything_put_off_do_nothing(full, page_size):
    full.store(1, 0, b"x")
    full.memory.tick()
    assert full.page(1) == b"x" + bytes(page_size - 1)


def test_wake_of_pages_that_are_there_changes_nothing(full, page_size):
    full.store(1, 0, b"x")
    assert full.memory.wake([page_key(REGION, 1), page_key(REGION, 2)]) == []
    assert full.page(1) == b"x" + bytes(page_size - 1)
    assert full.memory.wake([]) == []
