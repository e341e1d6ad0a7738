"""Touches of pages that were taken out of the page table: what the policy hears, and what the thread gets."""

import functools
import itertools
from array import array

import pytest

from tests.support.real_shell import DONE, RealShell
from tests.support.shell import PAGE, make_core
from usmd.core import commands, events, sampler, work
from usmd.core.frames import DIRTY
from usmd.core.region import page_key
from usmd.core.sampler import LEAST, MAX_AN_EVENT, SHORT, STAYS
from usmd.core.sampling import BATCH

FRAMES = 128
DATA = b"x" * PAGE
OTHER = b"y" * PAGE


class App:
    """A sampled process with one region, in memory of `frames`; commands are kept."""

    def __init__(self, pages=256, *, frames=FRAMES, evict="lru", rate=2.0, auto_read=True, memory_max=None, **more):
        core = make_core(frames=frames, devices=(("swap0", 512),), sampling=rate, **more)
        self.shell = RealShell(core, auto_read=auto_read)
        self.process = self.shell.attach(evict=evict, memory_max=memory_max)
        self.region = self.shell.map(self.process, pages)
        self.shell.do(events.SetSampling(self.process, on=True))
        self.state = core.state

    @property
    def sampling(self):
        return self.state.processes[self.process].sampling

    def key(self, page):
        return page_key(self.region, page)

    def touch(self, page, data=None):
        return self.shell.touch(self.process, self.region, page, data)

    def fill(self, pages, data=DATA):
        for page in pages:
            self.touch(page, data)

    def out(self):
        return sorted(key - self.key(0) for key in self.shell.out)

    def count(self, name):
        return self.shell.counters()[name]

    def frame(self, page):
        return self.state.regions[self.region].table[page] - 1


def test_a_process_that_fits_into_memory_pays_nothing():
    app = App()
    app.fill(range(FRAMES * 3 // 4))
    for _ in range(3):
        for page in range(FRAMES * 3 // 4):
            app.touch(page)
    assert (app.out(), app.count("sampled"), app.count("minor_faults_sampled")) == ([], 0, 0)


def test_no_note_is_taken_of_a_page_before_memory_is_short_and_then_of_all():
    app = App()
    app.fill(range(FRAMES - FRAMES // SHORT))
    assert app.sampling is None
    app.touch(FRAMES - FRAMES // SHORT)
    assert sorted(app.sampling.mapped) == [app.frame(page) for page in range(FRAMES - FRAMES // SHORT + 1)]
    assert not app.sampling.noting


def test_pages_in_memory_are_noted_in_parts_and_none_is_taken_out_meanwhile(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 16)
    app = App()
    app.shell.hold_go_on = True
    noted = []
    for page in range(FRAMES):
        app.touch(page)
        noted.append(0 if app.sampling is None else app.sampling.mapped.length)
        if app.sampling is not None and app.sampling.noting:
            assert app.out() == []
            app.shell.do_work()
            noted.append(app.sampling.mapped.length)
    assert max(after - before for before, after in itertools.pairwise(noted)) <= 16 + 1
    assert not app.sampling.noting
    assert app.out()


def test_one_event_begins_to_sample_one_process_and_none_that_is_gone_or_not_to_be_sampled():
    app = App()
    others = [app.shell.attach() for _ in range(4)]
    for process in others:
        app.shell.do(events.SetSampling(process, on=True))
    app.shell.do(events.SetSampling(others[1], on=False))
    app.shell.do(events.Detach(others[2], "bye"))
    sampled = []
    for page in range(FRAMES):
        app.touch(page)
        sampled.append(sum(each.sampling is not None for each in app.state.processes.values()))
    assert max(after - before for before, after in itertools.pairwise(sampled)) == 1
    assert app.state.processes[others[1]].sampling is None
    assert (sampled[-1], app.state.unsampled, app.state.begin_sampling_below) == (3, {}, 0)


def test_a_process_that_ends_while_its_pages_are_noted_leaves_nothing(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 16)
    app = App()
    app.shell.hold_go_on = True
    page = 0
    while app.sampling is None:
        app.touch(page)
        page += 1
    assert app.sampling.noting
    app.shell.do(events.Detach(app.process, "bye"))
    while app.shell.asked:
        app.shell.do_work()
    assert not any(app.state.sampling_links.owner)


def test_when_memory_is_short_the_pages_heard_of_longest_ago_are_taken_out_in_batches():
    app = App()
    app.fill(range(FRAMES))
    taken = app.count("sampled")
    assert app.out() == list(range(taken))
    assert taken % BATCH == 0
    assert BATCH <= taken <= FRAMES - max(FRAMES // STAYS, LEAST)


def test_a_read_of_such_a_page_gives_its_bytes_and_the_policy_hears_of_it():
    app = App()
    app.fill(range(FRAMES))
    page = app.out()[0]
    thread = app.touch(page)
    assert (thread.state, thread.read, page in app.out()) == (DONE, DATA, False)
    assert (app.count("minor_faults_sampled"), app.count("rescued")) == (1, 1)
    policy = app.state.processes[app.process].policies._evict
    assert list(policy.recency)[-1] == app.frame(page)


def test_it_does_not_count_as_a_fault():
    app = App()
    app.fill(range(FRAMES))
    before = app.count("faults"), app.count("minor_faults")
    app.touch(app.out()[0])
    assert (app.count("faults"), app.count("minor_faults")) == before


@functools.cache
def misses(evict):
    """Pages that come in while eight of them are touched between any others."""
    app = App(evict=evict)
    hot = range(8)
    app.fill(range(FRAMES * 3 // 4))
    before = app.count("swap_ins")
    for step in range(FRAMES * 2):
        app.touch(FRAMES * 3 // 4 + step % 160, DATA)
        for page in hot:
            app.touch(page)
    return [app.count("swap_ins") - before, app.count("zero_fills")]


@pytest.mark.parametrize("evict", ["lru", "clock", "arc", "s3_fifo(small=0.5)"])
def test_a_page_that_is_touched_all_the_time_stays_and_with_fifo_it_goes(evict):
    assert sum(misses(evict)) < sum(misses("fifo"))


def test_a_write_to_a_clean_page_that_is_out_makes_it_dirty_and_frees_its_slot():
    app = App()
    app.fill(range(4))
    app.shell.evict(app.process, app.region, 0, 4)
    assert app.touch(0).read == DATA
    app.shell.zap(app.region, 0)
    used = app.state.swap.slots - app.state.swap.free
    assert not app.state.frames.flags[app.frame(0)] & DIRTY
    assert app.touch(0, OTHER).state == DONE
    assert app.state.frames.flags[app.frame(0)] & DIRTY
    assert app.state.swap.slots - app.state.swap.free == used - 1
    assert app.touch(0).read == OTHER


def test_a_clean_page_that_a_read_brought_back_is_still_write_protected():
    app = App()
    app.fill(range(4))
    app.shell.evict(app.process, app.region, 0, 4)
    app.touch(0)
    app.shell.zap(app.region, 0)
    assert app.touch(0).state == DONE
    assert app.key(0) in app.shell.protected
    app.touch(0, OTHER)
    assert app.count("protect_faults") == 1


def test_a_page_that_is_out_is_evicted_like_any_other_and_comes_back_whole():
    app = App()
    app.fill(range(256))
    assert [app.touch(page).read for page in range(256)] == [DATA] * 256


def test_a_touch_of_a_page_that_is_out_and_on_its_way_to_swap_takes_it_back():
    app = App()
    app.shell.auto_io = False
    app.fill(range(FRAMES * 15 // 16))
    page = app.out()[0]
    app.shell.evict(app.process, app.region, page, 1)
    assert app.shell.state_of(app.region, page) == "EVICTING"
    thread = app.touch(page, OTHER)
    assert (thread.state, thread.read, app.shell.state_of(app.region, page)) == (DONE, DATA, "PRESENT")
    assert app.count("retaken") == 1


def test_a_message_about_a_page_that_its_client_has_punched_meanwhile_ends_in_zeros():
    app = App(auto_read=False)
    app.touch(0, DATA)
    app.shell.read_faults()
    app.shell.zap(app.region, 0)
    thread = app.touch(0)
    app.shell.punch(app.region, 0)
    while app.shell.unread:
        app.shell.read_faults()
    assert (thread.state, thread.read) == (DONE, bytes(PAGE))


def test_a_message_that_is_read_late_does_no_harm():
    app = App()
    app.touch(0, DATA)
    late = [events.PageFault(app.region, page, write, events.MINOR) for page in (0, 1) for write in (False, True)]
    app.shell.do(events.PageFaults(app.process, late))
    assert (app.touch(0).read, app.touch(1).read) == (DATA, bytes(PAGE))


def test_pins_put_a_page_back_and_keep_it_in_the_page_table():
    app = App()
    app.fill(range(FRAMES))
    page = app.out()[0]
    app.shell.do(events.Pin(app.process, app.region, page, 1))
    assert page not in app.out()
    app.fill(range(FRAMES, 256))
    assert page not in app.out()


def test_pages_held_for_threads_that_have_not_touched_them_yet_stay(monkeypatch):
    monkeypatch.setattr(sampler, "LEAST", 0)
    monkeypatch.setattr(sampler, "STAYS", FRAMES)
    app = App(rate=16.0, hold_budget=16)
    app.fill(range(FRAMES - 1))
    recent = {app.state.frames.page[pfn] for pfn in app.state.recent}
    assert app.out()
    assert not recent & app.shell.out


def test_one_event_takes_no_more_than_its_bound_out(monkeypatch):
    monkeypatch.setattr(sampler, "LEAST", 0)
    app = App(1024, frames=1024, rate=16.0)
    seen = []
    perform = app.shell._perform
    monkeypatch.setattr(app.shell, "_perform", lambda command: seen.append(command) or perform(command))
    for first, end in ((0, 800), (800, 1000)):
        pages = [events.PageFault(app.region, page, True) for page in range(first, end)]
        app.shell.do(events.PageFaults(app.process, pages))
    sizes = [len(each.pages) for each in seen if isinstance(each, commands.Sample)]
    assert sizes == [MAX_AN_EVENT]


def test_without_a_sampler_in_the_shell_or_a_rate_nothing_is_taken_out():
    app = App()
    app.shell.do(events.SetSampling(app.process, on=False))
    app.fill(range(256))
    assert (app.out(), app.count("sampled")) == ([], 0)
    app.shell.do(events.SetSampling(app.process, on=True))
    app.fill(range(256))
    assert app.count("sampled") > 0


def test_a_rate_of_0_samples_no_process():
    core = make_core(frames=8, sampling=0.0)
    shell = RealShell(core)
    process = shell.attach()
    shell.do(events.SetSampling(process, on=True))
    assert core.state.processes[process].sampling is None
    shell.do(events.SetSampling(99, on=True))  # its session has just ended


def test_a_process_at_its_memory_max_is_sampled_though_frames_are_free():
    app = App(frames=512, memory_max=100)
    app.fill(range(99))
    assert app.count("sampled") > 0


def test_what_a_session_leaves_is_in_no_list():
    app = App()
    app.fill(range(FRAMES))
    app.shell.do(events.Detach(app.process, "bye"))
    assert not any(app.state.sampling_links.owner)


def test_nothing_is_taken_out_for_a_policy_that_hears_no_touches_unless_somebody_records_them():
    app = App(evict="fifo")
    app.fill(range(256))
    assert app.count("sampled") == 0
    app.state.processes[app.process].touches = array("q")
    app.fill(range(256))
    page = app.out()[0]
    before = len(app.state.processes[app.process].touches)
    app.touch(page)
    assert list(app.state.processes[app.process].touches[before:]) == [app.key(page), 0]
