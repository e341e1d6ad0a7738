"""The simulated memory: bytes in frames. What every mechanism must do is in tests/contracts/test_mechanisms.py."""

import pytest

from usmd.core.commands import SlotPage
from usmd.errors import ConfigError, SwapIOError
from usmd.mechanism.simulated import NAME, SimulatedMemory


@pytest.fixture(params=[512, 4096, 65536])
def page_size(request):
    return request.param


@pytest.fixture
def memory(page_size):
    made = SimulatedMemory(8, page_size)
    yield made
    made.close()


def test_its_name_is_that_of_the_configuration():
    memory = SimulatedMemory(1, 512)
    assert memory.name == NAME == "simulated"
    memory.close()


def test_frames_are_zero_at_first(memory, page_size):
    assert memory.load(range(8), 0, 0, 8 * page_size) == bytes(8 * page_size)


def test_a_buffer_is_the_frame_itself_both_ways(memory, page_size):
    with memory.buffer(7) as buffer:
        assert (buffer.nbytes, buffer.readonly) == (page_size, False)
        buffer[:] = b"b" * page_size
        assert memory.load([7], 0, 0, page_size) == b"b" * page_size
        memory.store([7], 0, 0, memoryview(b"a"))
        assert buffer[0] == ord("a")
    assert memory.load([6], 0, 0, page_size) == bytes(page_size)


def test_a_stage_is_no_frame_and_a_fill_brings_in_what_was_read(memory, page_size):
    pages = [SlotPage(0, 5, 1, 99, 1), SlotPage(1, 6, 1, 100, 1)]
    stage = memory.stage(pages)
    for buffer in stage.buffers:
        buffer[:] = b"abc".ljust(page_size)
    assert memory.load([5], 99, 0, 3) == bytes(3)
    error = SwapIOError("no")
    assert memory.fill(stage, [None, error]) == [None, error]
    assert (memory.load([5], 99, 0, 3), memory.load([6], 100, 0, 3)) == (b"abc", bytes(3))


def test_zero_makes_exactly_these_frames_zero_that_hold_bytes(memory, page_size):
    for pfn in range(8):
        memory.store([pfn], 0, 0, memoryview(b"x" * page_size))
    memory.zero([0, 5], [1, 2])
    kept = [pfn for pfn in range(8) if memory.load([pfn], 0, 0, page_size) == b"x" * page_size]
    assert kept == [1, 2, 3, 4, 6, 7]
    assert memory.load([5], 0, 0, page_size) == bytes(page_size)


def test_nobody_gets_sigbus(memory):
    assert memory.poison([1, 2], [7, 0]) == [1, 2]
    assert memory.wake([1, 2]) == []


@pytest.mark.parametrize("frames", [1 << 45, 1 << 70])
def test_memory_that_the_machine_does_not_have_is_a_configuration_error(frames):
    with pytest.raises(ConfigError, match=r"memory\.size = .* cannot be allocated"):
        SimulatedMemory(frames, 4096)


def test_a_buffer_that_is_still_held_when_the_pool_closes_is_not_left_dangling():
    memory = SimulatedMemory(2, 512)
    held = memory.buffer(1)
    with pytest.raises(BufferError):
        memory.close()
    held[:3] = b"abc"
    assert bytes(held[:3]) == b"abc"
    held.release()


@pytest.mark.parametrize("frames", [range(1, 4), range(64), range(3, 70), [5, 2]])
def test_frames_that_follow_each_other_are_made_zero_like_others(frames):
    memory = SimulatedMemory(72, 512)
    for pfn in range(72):
        memory.store([pfn], 0, 0, memoryview(b"x" * 512))
    memory.zero(frames, [])
    assert [pfn for pfn in range(72) if memory.load([pfn], 0, 0, 512) == bytes(512)] == sorted(frames)
    memory.close()
