"""Marks of policy calls, seen from within the calls."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.allocation import Allocation
from usmd.core.policy import AllocPolicy, ConditionalPolicy, EvictPolicy, OomPolicy
from usmd.core.running import Call, Running
from usmd.policies import registry

PROCESS = 1


def watched(running, seen, *, fails=False):
    """Makes policies that note the mark in each of their calls, by method."""

    def note(method):
        seen.setdefault(method, set()).add(running.call)
        if fails:
            raise KeyError(method)

    class Alloc(AllocPolicy):
        def __init__(self, memory):
            super().__init__(memory)
            note("alloc")

        def allocate(self, fault, async_rq):
            note("allocate")
            return Allocation(fault.page)

        def heeded_keys(self):
            note("heeded_keys")
            return frozenset()

    class Evict(EvictPolicy):
        def page_filled(self, pfn):
            note("page_filled")

        def page_left(self, pfn):
            note("page_left")

        def page_accessed(self, pfn, write):
            note("page_accessed")

        def page_missed(self, page):
            note("page_missed")

        def hint_changed(self, pfn, priority_before):
            note("hint_changed")

        def choose_victims(self):
            note("choose_victims")
            try:
                for pfn in range(4):
                    note("next victim")
                    yield pfn
            finally:
                note("no more victims")

        def reason(self, pfn):
            note("reason")
            return "oldest"

        def swap_device(self, pfn):
            note("swap_device")

    class Oom(OomPolicy):
        def patience(self, fault):
            note("patience")
            return super().patience(fault)

        def choose(self, fault):
            note("choose")

    class Cond(ConditionalPolicy):
        def page_swapped(self, page, device):
            note("page_swapped")

        def page_returned(self, page):
            note("page_returned")

        def turn(self):
            note("turn")

    kinds = {"alloc": Alloc, "evict": Evict, "oom": Oom, "cond": Cond}
    return lambda kind, name, view: kinds[kind](view) if name == "watched" else registry.make(kind, name, view)


def use(running, make_policy):
    """Have a core call policies in each way that there is; returns it."""
    shell = Shell(make_core(frames=4, make_policy=make_policy, running=running, policy_errors=0))

    def do(call, *arguments, **more):
        answer = call(*arguments, **more)
        assert running.call is None
        return answer

    process = do(shell.attach, alloc="watched", evict="watched", oom="watched", cond="watched")
    assert process == PROCESS
    region = do(shell.map, process, 20)
    for page in (*range(8), 0):
        do(shell.fault, process, region, page, write=True)
        do(shell.store, process, region, page, b"x" * PAGE)
        do(shell.access, process, region, page)
    do(shell.hint, process, region, "PRIORITY=HIGH")
    shell.core.state.processes[process].policies.unheeded(shell.core.state.regions[region].hints.ranges[0].hint)
    do(shell.tick, 1.0)
    do(shell.hint, process, region, "EVICTION=DENY", 0, 4)
    for page in range(10, 16):
        do(shell.fault, process, region, page)
    do(shell.do, events.SetPolicy(process, "evict", "watched"))
    do(shell.do, events.Unmap(process, region))
    return shell


ALLOC, EVICT, OOM, COND = (Call(PROCESS, kind) for kind in ("alloc", "evict", "oom", "cond"))
MARKS = {
    "alloc": ALLOC, "allocate": ALLOC, "heeded_keys": ALLOC,
    "page_filled": EVICT, "page_left": EVICT, "page_accessed": EVICT, "page_missed": EVICT, "hint_changed": EVICT,
    "choose_victims": EVICT, "next victim": EVICT, "no more victims": EVICT, "reason": EVICT, "swap_device": EVICT,
    "choose": OOM, "patience": OOM,
    "page_swapped": COND, "page_returned": COND, "turn": COND,
}  # fmt: skip


def test_each_call_of_a_policy_is_marked_with_its_process_and_kind_and_no_mark_stays():
    running, seen = Running(), {}
    use(running, watched(running, seen))
    assert seen == {method: {mark} for method, mark in MARKS.items()}


def test_no_mark_stays_where_calls_raise():
    running, seen = Running(), {}
    shell = use(running, watched(running, seen, fails=True))
    assert shell.notices
    assert all(marks == {MARKS[method]} for method, marks in seen.items())


@pytest.mark.parametrize("kind", ["alloc", "evict", "oom", "cond"])
def test_a_constructor_is_marked_also_where_it_replaces_a_policy(kind):
    running, marks = Running(), []

    def make(kind, name, view):
        marks.append(running.call)
        return registry.make(kind, name, view)

    shell = Shell(make_core(make_policy=make, running=running))
    process = shell.attach()
    marks.clear()
    name = {"alloc": "first_fit", "evict": "lru", "oom": "refuse", "cond": "trim"}[kind]
    shell.do(events.SetPolicy(process, kind, name))
    assert marks == [Call(process, kind)]
    assert running.call is None
