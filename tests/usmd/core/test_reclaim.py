"""Reclaim: watermarks, who gives, what can go, and what a look at the policy's victims costs."""

from tests.support.in_swap import fill
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.reclaim import Reclaim
from usmd.core.region import MOST_PATIENCE
from usmd.policies import registry

DATA = b"x" * PAGE


def test_reclaim_begins_below_low_and_ends_at_high():
    shell = Shell(make_core(frames=8, low=2, high=4))
    process = shell.attach()
    region = shell.map(process, 8)
    fill(shell, process, region, range(6))
    assert shell.core.state.frames.free == 2
    shell.put(process, region, 6, DATA)
    assert shell.core.state.frames.free == 4


def test_nothing_is_reclaimed_between_the_marks_after_memory_came_back_by_itself():
    shell = Shell(make_core(frames=8, low=1, high=4))
    process = shell.attach()
    stuck, other = shell.map(process, 8), shell.map(process, 8)
    shell.hint(process, stuck, "EVICTION=DENY")
    fill(shell, process, stuck, range(8))  # below the low mark, and nothing can go
    shell.do(events.Unmap(process, stuck))
    shell.tick(1)
    fill(shell, process, other, range(7))
    assert shell.core.state.frames.free == 1
    assert shell.counters()["evictions"] == 0


def test_a_waiting_fault_gets_the_frame_of_a_victim_when_its_write_has_ended():
    shell = Shell(make_core(frames=2), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 3)
    fill(shell, process, region, range(2))
    assert shell.fault(process, region, 2, fault_id=7) == []
    assert shell.state_of(region, 0) == "EVICTING"
    shell.complete_io()
    assert shell.outcomes[process][-1] == commands.Allocated(7, ((2, 0, 1),))
    assert shell.state_of(region, 0) == "SWAPPED"


def test_the_process_with_most_evictable_pages_gives_first():
    shell = Shell(make_core(frames=5))
    small, large = shell.attach("small"), shell.attach("large")
    region, wide = shell.map(small, 3), shell.map(large, 4)
    fill(shell, large, wide, range(3))
    fill(shell, small, region, range(2))
    shell.put(small, region, 2, DATA)
    assert shell.core.state.processes[large].counters.evictions == 1
    assert shell.core.state.processes[small].counters.evictions == 0


def test_dirty_pages_only_are_written():
    shell = Shell(make_core(frames=4))
    process = shell.attach()
    region = shell.map(process, 2)
    fill(shell, process, region, range(2))
    shell.evict(process, region)
    assert shell.get(process, region, 0) == DATA
    shell.put(process, region, 1, b"y" * PAGE)
    shell.evict(process, region)
    counters = shell.counters()
    assert (counters["swap_outs"], counters["clean_drops"], counters["evictions"]) == (3, 1, 4)
    assert (shell.get(process, region, 0), shell.get(process, region, 1)) == (DATA, b"y" * PAGE)


def test_a_zero_page_takes_no_slot():
    shell = Shell(make_core())
    process = shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, bytes(PAGE))
    shell.evict(process, region)
    assert shell.state_of(region, 0) == "ABSENT"
    assert shell.core.state.swap.free == shell.core.state.swap.slots
    assert shell.counters()["zero_drops"] == 1
    assert shell.counters()["swap_outs"] == 0


def test_a_page_that_became_zero_gives_its_slot_back():
    shell = Shell(make_core())
    process = shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, DATA)
    shell.evict(process, region)
    shell.put(process, region, 0, bytes(PAGE))
    shell.evict(process, region)
    assert shell.core.state.swap.free == shell.core.state.swap.slots
    assert shell.get(process, region, 0) == bytes(PAGE)


def test_a_clean_page_goes_without_io_when_no_slot_is_free():
    shell = Shell(make_core(frames=2, devices=(("tiny", 2),)))
    process = shell.attach()
    region = shell.map(process, 3)
    fill(shell, process, region, range(2))
    shell.evict(process, region)
    for page in range(2):
        shell.get(process, region, page)  # clean, and between them they have all slots
    shell.put(process, region, 2, DATA)
    assert [shell.state_of(region, page) for page in range(2)] == ["SWAPPED"] * 2
    assert shell.counters()["clean_drops"] == 2
    assert shell.counters()["refused_victims"] == 0


def test_full_swap_refuses_the_fault_and_all_that_is_stored_can_be_read_and_written():
    shell = Shell(make_core(frames=3, devices=(("tiny", 1),)))
    process = shell.attach()
    region = shell.map(process, 4)
    fill(shell, process, region, range(3))
    failed = shell.fault(process, region, 3)[-1]
    assert failed.error.reason == "OUT_OF_MEMORY"
    assert "0 of 1 swap slots free" in str(failed.error)
    for page in (0, 1, 2, 0):
        assert shell.get(process, region, page) == DATA
        shell.put(process, region, page, DATA)


def test_background_reclaim_rests_when_nothing_can_go():
    calls = []
    shell = Shell(make_core(frames=4, low=2, high=3, devices=(), reclaim_rest=1.0))
    process = shell.attach()
    region = shell.map(process, 3)
    fill(shell, process, region, range(3))
    policies = shell.core.state.processes[process].policies
    policies._evict.choose_victims = lambda: calls.append(shell.now) or []
    for _ in range(5):
        shell.tick(0.3)
    assert len(calls) <= 2


def test_dontneed_evicts_and_loses_no_byte():
    shell = Shell(make_core())
    process = shell.attach()
    region = shell.map(process, 4)
    fill(shell, process, region, range(4))
    shell.hint(process, region, "DONTNEED", 1, 2)
    assert [shell.state_of(region, page) for page in range(4)] == ["PRESENT", "SWAPPED", "SWAPPED", "PRESENT"]
    assert all(shell.get(process, region, page) == DATA for page in range(4))


def test_a_held_page_is_passed_over_until_nothing_else_is_left():
    shell = Shell(make_core(frames=2, hold_budget=2, hold_seconds=100.0))
    process = shell.attach()
    region = shell.map(process, 4)
    shell.fault(process, region, 0)  # held
    shell.put(process, region, 1, DATA)  # touched, so no longer
    shell.fault(process, region, 2)
    assert [shell.state_of(region, page) for page in range(3)] == ["PRESENT", "SWAPPED", "PRESENT"]
    assert shell.counters()["refused_victims"] == 1
    assert isinstance(shell.fault(process, region, 3)[-1], commands.Allocated)
    assert shell.counters()["policy_errors"] == 0


def test_an_eviction_is_on_record_with_policy_and_reason():
    shell = Shell(make_core(frames=1))
    process = shell.attach(evict="lru")
    region = shell.map(process, 2)
    fill(shell, process, region, range(2))
    record = shell.core.state.processes[process].evictions[-1]
    assert (record.policy, record.reason, record.result) == (
        "lru",
        "least recently used of its process; last fault 0.0 s ago",
        "swapped",
    )


def test_one_look_is_enough_for_all_that_wait_when_nothing_can_go(monkeypatch):
    shell = Shell(make_core(frames=8, devices=(("tiny", 2),)))
    process = shell.attach()
    region = shell.map(process, 64)
    fill(shell, process, region, range(9))
    looks = []
    evict = Reclaim.evict
    monkeypatch.setattr(Reclaim, "evict", lambda self, wanted: looks.append(wanted) or evict(self, wanted))
    shell.do(events.Faults(process, [events.FaultRequest(100 + page, region, page, 1, True) for page in range(20, 60)]))
    failed = [each for each in shell.outcomes[process] if each.fault_id >= 100]
    assert [each.error.reason for each in failed] == ["OUT_OF_MEMORY"] * 40
    assert len(looks) <= 3


def test_a_fault_waits_for_the_slot_of_a_cancelled_write_instead_of_killing_for_it():
    shell = Shell(make_core(frames=1, devices=(("tiny", 1),)), auto_io=False)
    process = shell.attach(oom="kill_largest")
    region = shell.map(process, 2)
    shell.put(process, region, 0, DATA)
    shell.fault(process, region, 1, fault_id=5)
    assert shell.state_of(region, 0) == "EVICTING"
    shell.fault(process, region, 0, fault_id=6)  # takes it back, and its write goes on for nothing
    assert process not in shell.ended
    assert shell.core.waiting
    while shell.pending:
        shell.complete_io()
    assert process not in shell.ended
    assert not shell.core.waiting


class TestAhead:
    """Reclaim keeps frames free for the next window."""

    def full(self):
        shell = Shell(make_core(frames=128, low=8, high=16, devices=(("swap0", 1024),)))
        process = shell.attach(alloc="flexible_huge_pages(pages=8)")
        region = shell.map(process, 512)
        for page in range(512):
            shell.put(process, region, page, b"0123456789abcdef")
        return shell, process, region

    def test_every_window_comes_in_whole(self):
        shell, process, region = self.full()
        before = shell.counters()
        for page in range(0, 256, 8):
            shell.get(process, region, page)
        after = shell.counters()
        assert after["faults"] - before["faults"] == 256 // 8
        assert after["read_ahead"] - before["read_ahead"] == 256 // 8 * 7

    def test_single_faults_and_time_end_it(self):
        shell, process, region = self.full()
        assert shell.core.state.ahead == 8
        shell.hint(process, region, "ACCESS=RANDOM")
        shell.get(process, region, 0)
        assert shell.core.state.ahead == 7
        for _ in range(10):
            shell.tick(0.1)
        assert shell.core.state.ahead == 0

    def test_without_a_high_watermark_there_is_none(self):
        shell = Shell(make_core(frames=128, devices=(("swap0", 1024),)))
        process = shell.attach(alloc="flexible_huge_pages(pages=8)")
        shell.put(process, shell.map(process, 16), 0, b"0123456789abcdef")
        assert shell.core.state.ahead == 0


def test_what_a_policy_gave_up_is_left_alone_once_its_frame_has_another_page():
    class GivesUp(registry.find("evict", "lru")[0]):
        def page_missed(self, page):
            self.memory.give_up(0)

    def make(kind, specification, view):
        return GivesUp(view) if specification == "gives_up" else registry.make(kind, specification, view)

    shell = Shell(make_core(frames=1, hold_budget=0, make_policy=make))
    process = shell.attach(evict="gives_up")
    region = shell.map(process, 2)
    fill(shell, process, region, [0])
    shell.evict(process, region, 0)
    shell.fault(process, region, 0)  # clean now, so it goes at once
    shell.fault(process, region, 1)
    assert (shell.state_of(region, 0), shell.state_of(region, 1)) == ("SWAPPED", "PRESENT")
    assert shell.counters()["policy_errors"] == 0


def test_when_no_slot_is_left_few_dirty_pages_are_looked_at_and_clean_ones_are_found():
    shell = Shell(make_core(frames=2000, devices=(("tiny", 2),)), check=False)
    process = shell.attach()
    region = shell.map(process, 2001)
    fill(shell, process, region, range(2))
    shell.evict(process, region)
    fill(shell, process, region, range(2, 2000))
    for page in (0, 1):
        assert shell.get(process, region, page) == DATA  # clean, and the policy names them after 1,998 dirty ones
    refused = shell.counters()["refused_victims"]
    shell.put(process, region, 2000, DATA)
    assert "SWAPPED" in {shell.state_of(region, page) for page in (0, 1)}
    assert 0 < shell.counters()["refused_victims"] - refused <= 2 * MOST_PATIENCE
