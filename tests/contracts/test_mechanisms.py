"""What every mechanism does with the bytes of frames, whatever keeps them; add a maker to MECHANISMS to have it run."""

import random

import pytest

from usmd.mechanism.simulated import SimulatedMemory

MECHANISMS = {"simulated": SimulatedMemory}
FRAMES = 8


@pytest.fixture(params=sorted(MECHANISMS))
def make(request):
    """Makes a memory of some page size; all are closed at the end."""
    made = []

    def build(page_size):
        made.append(MECHANISMS[request.param](FRAMES, page_size))
        return made[-1]

    yield build
    for memory in made:
        memory.close()


@pytest.fixture(params=[512, 4096, 65536])
def page_size(request):
    return request.param


@pytest.fixture
def memory(make, page_size):
    return make(page_size)


def frame(memory, pfn, page_size):
    return memory.load([pfn], 0, page_size)


def test_it_has_a_name(memory):
    assert memory.name.isidentifier()


def test_frames_are_zero_at_first(memory, page_size):
    assert memory.load(range(FRAMES), 0, FRAMES * page_size) == bytes(FRAMES * page_size)


def test_what_is_stored_is_loaded_and_no_other_frame_changes(memory, page_size):
    assert memory.store([3], 5, memoryview(b"hello")) == 5
    assert memory.load([3], 4, 7) == b"\0hello\0"
    for pfn in (0, 1, 2, 4, 5, 6, 7):
        assert frame(memory, pfn, page_size) == bytes(page_size)


def test_bytes_cross_frames_in_the_order_of_the_pages_not_of_the_frames(memory, page_size):
    data = bytes(range(1, 201)) * (page_size // 100)
    assert memory.store([6, 1, 4], page_size - 100, memoryview(data[: page_size + 200])) == page_size + 200
    assert memory.load([6, 1, 4], page_size - 100, page_size + 200) == data[: page_size + 200]
    assert frame(memory, 1, page_size) == data[100 : page_size + 100]
    assert frame(memory, 4, page_size)[:101] == data[page_size + 100 : page_size + 200] + b"\0"


def test_a_store_ends_with_the_last_frame_given(memory, page_size):
    assert memory.store([2], page_size - 3, memoryview(b"abcdef")) == 3
    assert memory.store([], 0, memoryview(b"abc")) == 0
    assert memory.load([], 0, 0) == b""
    assert frame(memory, 3, page_size) == bytes(page_size)


def test_a_load_is_a_copy(memory, page_size):
    memory.store([0], 0, memoryview(b"old"))
    loaded = memory.load([0], 0, 3)
    memory.store([0], 0, memoryview(b"new"))
    assert loaded == b"old"


def test_zero_makes_exactly_these_frames_zero(memory, page_size):
    for pfn in range(FRAMES):
        memory.store([pfn], 0, memoryview(b"x" * page_size))
    memory.zero([0, 5])
    kept = [pfn for pfn in range(FRAMES) if frame(memory, pfn, page_size) == b"x" * page_size]
    assert kept == [1, 2, 3, 4, 6, 7]
    assert frame(memory, 5, page_size) == bytes(page_size)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_protect_tells_zero_frames_from_those_with_a_single_byte(memory, page_size, place):
    offset = {"first": 0, "middle": page_size // 2, "last": page_size - 1}[place]
    memory.store([4], offset, memoryview(b"\1"))
    assert list(memory.protect([3, 4, 5])) == [True, False, True]
    assert list(memory.protect([])) == []


def test_a_buffer_is_the_frame_itself_both_ways(memory, page_size):
    with memory.buffer(7) as buffer:
        assert (buffer.nbytes, buffer.readonly) == (page_size, False)
        buffer[:] = b"b" * page_size
        assert frame(memory, 7, page_size) == b"b" * page_size
        memory.store([7], 0, memoryview(b"a"))
        assert buffer[0] == ord("a")
    assert frame(memory, 6, page_size) == bytes(page_size)


def test_many_random_stores_are_what_a_plain_array_says(make):
    page_size = 512
    memory = make(page_size)
    random_ = random.Random(7)
    plain = bytearray(FRAMES * page_size)
    frames = list(range(FRAMES))
    random_.shuffle(frames)
    for _ in range(300):
        offset = random_.randrange(len(plain))
        data = random_.randbytes(random_.randint(1, min(2000, len(plain) - offset)))
        first, last = offset // page_size, (offset + len(data) - 1) // page_size
        used = frames[first : last + 1]
        assert memory.store(used, offset % page_size, memoryview(data)) == len(data)
        plain[offset : offset + len(data)] = data
        assert memory.load(used, offset % page_size, len(data)) == data
    assert memory.load(frames, 0, len(plain)) == bytes(plain)
