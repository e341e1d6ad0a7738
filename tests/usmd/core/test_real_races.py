"""Races of threads with each other, and with a core that hears late of what was done.

A client goes on as soon as its page is filled, and its next fault may be told before the fill is.
"""

import pytest

from tests.support.real_shell import DONE, SIGBUS, WAITS, RealShell
from tests.support.shell import PAGE, make_core
from usmd.core import events
from usmd.core.region import page_key

DATA = b"x" * PAGE
OTHER = b"y" * PAGE


class App:
    """A process with one region, all of whose pages are in swap; from then on the core hears late of what follows."""

    def __init__(self, pages=1, **settings):
        self.shell = RealShell(make_core(**settings))
        self.process = self.shell.attach()
        self.region = self.shell.map(self.process, pages)
        for page in range(pages):
            self.shell.touch(self.process, self.region, page, DATA)
        self.shell.evict(self.process, self.region)
        assert {self.shell.state_of(self.region, page) for page in range(pages)} == {"SWAPPED"}
        self.shell.auto_io, self.shell.late = False, True

    def touch(self, page=0, data=None):
        return self.shell.touch(self.process, self.region, page, data)

    def state_of(self, page=0):
        return self.shell.state_of(self.region, page)

    def tell_all(self):
        while self.shell.untold:
            self.shell.tell()


@pytest.mark.parametrize("then", ["read", "written"])
def test_who_writes_to_a_page_that_has_come_in_before_the_core_knows_goes_on_and_nothing_is_lost(then):
    app = App()
    reader = app.touch()
    app.shell.complete_io(late=True)
    assert (reader.state, reader.read, app.state_of()) == (DONE, DATA, "FILLING")
    writer = app.touch(data=OTHER)
    assert (writer.state, app.state_of()) == (WAITS, "FILLING")
    app.tell_all()
    assert (writer.state, app.state_of()) == (DONE, "PRESENT")
    assert app.shell.core.state.swap.free == app.shell.core.state.swap.slots  # it is dirty, its slot is free
    app.shell.late, app.shell.auto_io = False, True
    app.shell.evict(app.process, app.region)
    assert app.state_of() == "SWAPPED"
    found = app.touch() if then == "read" else app.touch(data=DATA)
    assert (found.state, found.read) == (DONE, OTHER)


def test_who_reads_a_page_that_has_come_in_before_the_core_knows_leaves_it_clean():
    app = App()
    app.touch()
    app.shell.complete_io(late=True)
    assert app.touch().state == DONE
    app.tell_all()
    assert app.shell.core.state.swap.free == app.shell.core.state.swap.slots - 1
    assert app.touch(data=OTHER).state == DONE
    assert app.shell.core.state.swap.free == app.shell.core.state.swap.slots


def test_a_region_that_goes_before_the_core_knows_that_its_page_came_in_frees_frame_and_slot():
    app = App()
    app.touch()
    app.shell.complete_io(late=True)
    writer = app.touch(data=OTHER)
    app.shell.do(events.Unmap(app.process, app.region))
    app.tell_all()
    assert writer.state == SIGBUS
    state = app.shell.core.state
    assert (state.frames.free, state.swap.free) == (state.frames.count, state.swap.slots)


def test_what_is_written_to_an_emptied_page_that_goes_out_before_the_core_knows_is_kept():
    """The client punches a clean page and writes to it; the core has the page evicted before it hears Punched."""
    app = App()
    app.touch()
    app.shell.complete_io()
    app.shell.punch(app.region, 0)
    writer = app.touch(data=OTHER)
    assert writer.state == DONE
    assert app.shell.untold == type(app.shell.untold)([events.Punched([page_key(app.region, 0)])])
    app.shell.hint(app.process, app.region, "DONTNEED")
    assert app.state_of() == "EVICTING"
    app.tell_all()
    app.shell.late, app.shell.auto_io = False, True
    while app.shell.pending:
        app.shell.complete_io()
    assert app.touch().read == OTHER


def test_who_is_killed_for_memory_in_the_event_that_gave_it_a_page_hears_sigbus():
    """Of two threads that wait for memory the first is given a frame, and the second has their process killed."""
    shell = RealShell(make_core(frames=3, devices=(("tiny", 2),), low=1, high=2), auto_io=False)
    process = shell.attach(oom="kill_largest")
    region = shell.map(process, 5)
    for page in range(3):
        assert shell.touch(process, region, page, DATA).state == DONE
    assert [shell.state_of(region, page) for page in range(3)] == ["EVICTING", "EVICTING", "PRESENT"]
    threads = [shell.touch(process, region, page, OTHER) for page in (3, 4)]
    assert [thread.state for thread in threads] == [WAITS, WAITS]
    while shell.pending:
        shell.complete_io()
    assert process in shell.ended
    assert [thread.state for thread in threads] == [SIGBUS, SIGBUS]


@pytest.mark.parametrize("data", [None, OTHER])
def test_threads_that_touch_an_absent_page_at_once_have_it_filled_once(data):
    shell = RealShell(make_core(), auto_read=False)
    process = shell.attach()
    region = shell.map(process, 1)
    threads = [shell.touch(process, region, 0, data) for _ in range(3)]
    shell.read_faults()
    assert shell.unread == []
    assert [thread.state for thread in threads] == [DONE] * 3
    assert [thread.read for thread in threads] == [bytes(PAGE), *[data or bytes(PAGE)] * 2]
    assert shell.counters()["protect_faults"] == 0


def test_threads_that_write_to_a_page_that_went_meanwhile_have_it_filled_before_anything_else_is_done_to_it():
    """Both met a protected page; it was all zero, and is absent when the first of them is heard."""
    shell = RealShell(make_core(), auto_read=False)
    process = shell.attach()
    region = shell.map(process, 1)
    shell.touch(process, region, 0)
    shell.read_faults()
    shell.late = True
    shell.evict(process, region)
    threads = [shell.touch(process, region, 0, OTHER) for _ in range(2)]
    assert [thread.message.kind for thread in threads] == [events.PROTECTED] * 2
    while shell.untold:
        shell.tell()
    assert shell.state_of(region, 0) == "ABSENT"
    shell.read_faults()
    assert [thread.state for thread in threads] == [DONE, DONE]
