"""Work handed to a thread: its order, its bound, and what is told of what was lost."""

import gc
import threading

import pytest

from usmd.aside import Aside


class Reader:
    """Performs items when it is awake; `taken` is what it performed."""

    def __init__(self):
        self.awake = threading.Event()
        self.asleep = threading.Event()
        self.taken = []
        self.works = True

    def perform(self, item):
        self.asleep.set()
        assert self.awake.wait(90)
        if self.works:
            self.taken.append(item)
        return self.works


@pytest.fixture
def reader():
    reader = Reader()
    yield reader
    reader.awake.set()


def sleeping(reader, aside):
    """Have the reader take one item and fall asleep with it."""
    assert aside.put("first")
    assert reader.asleep.wait(90)


def test_items_are_performed_in_their_order(reader):
    aside = Aside("test", reader.perform, limit=1000)
    reader.awake.set()
    for number in range(1000):
        assert aside.put(number)
    assert aside.finish()
    assert reader.taken == list(range(1000))


def test_what_does_not_fit_is_lost_counted_by_size_and_told_where_it_is_missing(reader):
    aside = Aside("test", reader.perform, limit=4, size_of=len, mark="lost {}".format)
    sleeping(reader, aside)
    kept = [aside.put(str(number) * 2) for number in range(6)]
    assert kept == [True, True, True, True, False, False]
    assert aside.lost == 4
    reader.awake.set()
    assert aside.finish()
    assert aside.put("last")
    assert aside.finish()
    assert reader.taken == ["first", "00", "11", "22", "33", "lost 4", "last"]
    assert aside.lost == 0


def test_a_reader_that_wakes_is_told_without_a_further_item(reader):
    aside = Aside("test", reader.perform, limit=1, mark="lost {}".format)
    sleeping(reader, aside)
    for number in range(3):
        aside.put(number)
    told = threading.Event()
    aside.mark = lambda lost: told.set() or f"lost {lost}"
    reader.awake.set()
    assert told.wait(90)
    assert aside.finish()
    assert reader.taken == ["first", 0, "lost 2"]


def test_after_a_loss_items_are_lost_until_half_of_the_queue_is_free(reader):
    step = threading.Semaphore(0)
    taken = []

    def perform(item):
        step.acquire()
        taken.append(item)
        return True

    aside = Aside("test", perform, limit=4, mark="lost {}".format)
    for item in range(8):
        aside.put(item)
    lost = aside.lost
    assert lost >= 3
    step.release()
    while not taken:
        pass
    assert not aside.put("one place is too few")
    step.release(100)
    assert aside.finish()
    assert taken[-1] == f"lost {lost + 1}"


def test_items_that_fail_are_told_with_the_next_one_that_does_not(reader):
    aside = Aside("test", reader.perform, limit=9, mark="lost {}".format)
    reader.awake.set()
    reader.works = False
    for item in range(3):
        assert aside.put(item)
    while aside.lost < 3:
        pass
    assert aside.put("here, with the mark, and lost as well")
    while aside.lost < 4:
        pass
    reader.works = True
    assert aside.put("here")
    assert aside.finish()
    assert reader.taken == ["lost 4", "here"]


def test_finish_gives_up_on_a_reader_that_sleeps_and_not_on_a_slow_one(reader):
    aside = Aside("test", reader.perform, limit=9)
    sleeping(reader, aside)
    assert not aside.finish(stall=0.01)
    reader.awake.set()
    assert aside.finish()
    released = threading.Semaphore(0)
    slow = Aside("slow", lambda item: released.acquire(timeout=0.05) or True, limit=9)
    for item in range(5):
        slow.put(item)
    assert slow.finish(stall=5.0, longest=20.0)
    for item in range(9):
        slow.put(item)
    assert not slow.finish(stall=5.0, longest=0.01)


def test_a_finalizer_that_hands_something_over_in_the_middle_of_it_does_no_harm(reader):
    class Item:
        def __init__(self, aside):
            self.aside = aside
            self.cycle = self

        def __del__(self):
            self.aside.put("from a finalizer")

    def size_of(item):
        gc.collect()  # while the lock is held
        return 1

    aside = Aside("test", reader.perform, limit=9, size_of=size_of)
    reader.awake.set()
    Item(aside)
    assert aside.put("item")
    assert aside.finish()
    assert sorted(reader.taken) == ["from a finalizer", "item"]


def test_many_threads_lose_exactly_what_does_not_fit(reader):
    aside = Aside("test", reader.perform, limit=100, mark=lambda lost: lost)
    sleeping(reader, aside)
    threads = [threading.Thread(target=lambda: [aside.put(0) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert aside.lost == 1900
