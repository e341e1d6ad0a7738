"""Which parts are made resident and copied, in which order, and what memory that is short does to them."""

import io
import mmap

import pytest

import lib_usm
from lib_usm import mapped
from lib_usm.byte_sequence import Strided

PAGE = 4096
PART = mapped.PART_BYTES // PAGE


class Memory:
    """A mapping, and what makes its pages resident: on request, `frames` at a time; they may go again."""

    def __init__(self, pages, frames=None):
        self.memory = mmap.mmap(-1, pages * PAGE)
        self.view = memoryview(self.memory)
        self.address = mapped._address_of(self.view)
        self.there = set()
        self.frames = frames
        self.asked = []
        self.copied = []
        self.gone = 0

    def resident(self, first_page, page_count):
        return self.there.issuperset(range(first_page, first_page + page_count))

    def ensure(self, first_page, page_count):
        self.asked.append((first_page, page_count))
        if self.frames is not None and page_count > self.frames:
            raise lib_usm.OutOfMemory("no room")
        if self.gone:
            self.gone -= 1
        else:
            self.there.update(range(first_page, first_page + page_count))


def do(memory, todo, copy):
    """Do the steps as lib_usm.steps does."""
    answer = None
    try:
        while True:
            step = todo.send(answer)
            answer = None
            if isinstance(step, mapped.Copy):
                copy(step.start, step.stop)
                continue
            try:
                memory.ensure(step.first_page, step.page_count)
            except lib_usm.OutOfMemory as error:
                answer = error
    except StopIteration:
        return


def read(memory, offset, n):
    parts = io.BytesIO()
    do(memory, mapped.visits(memory, PAGE, offset, offset + n), mapped.reader(memory, parts))
    return parts.getvalue()


def write(memory, offset, data):
    do(memory, mapped.storing(PAGE, memory, offset, data), mapped.writer(memory, offset, data))


def write_strided(memory, place, data):
    todo = mapped.visits(memory, PAGE, place.start, place.stop)
    do(memory, todo, mapped.strided_writer(memory, place, data))


def test_a_part_that_is_in_memory_is_resident():
    memory = Memory(PART + 1)
    memory.there.update(range(PART + 1))
    assert mapped.resident(memory, PAGE, 5, PART * PAGE)
    assert not mapped.resident(memory, PAGE, 0, PART * PAGE + 1)
    memory.there.remove(1)
    assert mapped.resident(memory, PAGE, 0, PAGE)
    assert not mapped.resident(memory, PAGE, 0, PAGE + 1)


def test_what_is_resident_is_copied_without_a_question():
    memory = Memory(4)
    memory.there.update(range(4))
    write(memory, 5, memoryview(b"hello"))
    assert read(memory, 4, 7) == b"\0hello\0"
    assert not memory.asked


def test_what_is_absent_is_made_resident_in_parts():
    memory = Memory(2 * PART + 3)
    memory.view[5] = 1
    assert read(memory, 5, (2 * PART + 1) * PAGE) == b"\1" + bytes((2 * PART + 1) * PAGE - 1)
    assert memory.asked == [(0, PART), (PART, PART), (2 * PART, 2)]
    data = memoryview(bytes(7)).cast("B")
    memory.there.clear()
    write(memory, PAGE - 2, data)
    assert memory.asked[3:] == [(0, 2)]


def test_parts_get_smaller_while_memory_is_short_and_larger_again():
    memory = Memory(PART, frames=PART // 4)
    read(memory, 0, PART * PAGE)
    assert [count for _, count in memory.asked[:3]] == [PART, PART // 2, PART // 4]
    assert memory.resident(0, PART)


def test_memory_that_has_no_room_for_a_page_is_an_error():
    memory = Memory(3, frames=0)
    with pytest.raises(lib_usm.OutOfMemory):
        read(memory, PAGE, 1)
    with pytest.raises(lib_usm.OutOfMemory):
        write(memory, 0, memoryview(bytes(3 * PAGE)))


def test_a_page_that_does_not_stay_is_touched_in_the_end():
    memory = Memory(1)
    memory.gone = 1000
    assert read(memory, 0, 3) == bytes(3)
    assert len(memory.asked) == 4


def test_other_errors_end_it():
    memory = Memory(1)
    memory.ensure = lambda *_, **__: (_ for _ in ()).throw(lib_usm.DataLoss("damaged"))
    with pytest.raises(lib_usm.DataLoss):
        read(memory, 0, 3)


@pytest.mark.parametrize("shift", [1, PAGE, -1, -PAGE - 3])
@pytest.mark.parametrize("readonly", [True, False])
def test_bytes_of_the_region_itself_move_as_in_a_bytearray(shift, readonly):
    size = (2 * PART + 3) * PAGE
    memory = Memory(2 * PART + 6)
    pattern = bytes(range(251)) * (size // 251 + 1)
    memory.view[: len(pattern)] = pattern
    start, target = (0, shift) if shift > 0 else (-shift, 0)
    truth = bytearray(memory.view)
    truth[target : target + size] = truth[start : start + size]
    source = memory.view[start : start + size]
    write(memory, target, source.toreadonly() if readonly else source)
    assert memory.view == truth


@pytest.mark.parametrize("step", [2, 3, 1000])
def test_strided_bytes_leave_those_between_alone(step):
    memory = Memory(2 * PART)
    n = (2 * PART * PAGE - 5) // step
    data = bytes(range(256)) * (n // 256) + b"x" * (n % 256)
    truth = bytearray(2 * PART * PAGE)
    truth[5 : 5 + n * step : step] = data
    write_strided(memory, Strided(5, step, n, reverse=False), memoryview(data))
    assert memory.view == truth
    write_strided(memory, Strided(0, step, 0, reverse=False), memoryview(b""))
    assert memory.view == truth
