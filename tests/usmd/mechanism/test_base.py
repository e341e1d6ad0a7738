"""What a mechanism need not do, and what does nothing then."""

import pytest

from usmd.core.commands import SlotPage
from usmd.errors import SwapIOError
from usmd.mechanism.base import Busy, Mechanism, Stage

PAGES = [SlotPage(0, 0, 1, 7, 1), SlotPage(1, 1, 1, 8, 1)]


class Least(Mechanism):
    """Only what must be there, and nothing in it."""

    name = "least"

    def zero(self, frames, pages):
        raise NotImplementedError

    protect = source = stage = fill = load = store = zero

    def close(self):
        raise NotImplementedError


def test_what_every_mechanism_must_do_itself():
    assert Mechanism.__abstractmethods__ == {
        *("zero", "protect", "source", "stage", "fill", "load", "store", "close"),
    }
    with pytest.raises(TypeError, match="abstract"):
        Mechanism()


def test_without_real_memory_nobody_is_told_anything():
    memory = Least()
    assert memory.add_region(1, 1, 10) is None
    assert memory.release([7]) is None
    assert memory.restore([7], [True]) is None
    assert memory.drop_regions([1], ended=True) is None
    assert memory.tick() is None


def test_without_real_memory_no_client_has_emptied_a_page_and_none_gets_sigbus():
    assert Least().wake([7, 8]) == []
    assert Least().poison([7, 8], [9, 0]) == [7, 8]


def test_a_stage_that_is_not_filled_gives_its_buffers_back():
    buffers = [memoryview(bytearray(4)), memoryview(bytearray(4))]
    stage = Stage(PAGES, buffers)
    assert (stage.pages, stage.buffers) == (PAGES, buffers)
    Least().unstage(stage)
    for buffer in buffers:
        with pytest.raises(ValueError, match="released"):
            bytes(buffer)


def test_busy_is_an_error_of_swap():
    assert issubclass(Busy, SwapIOError)
