"""What every conditional policy of the registry keeps to, whichever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.region import Process
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.state import State
from usmd.core.view import MemoryView
from usmd.policies import registry

COND = sorted(registry.TABLES["cond"])
EAGER = [
    "trim(low=0.5,high=0.5)",
    "swap_back(free=0)",
    "swap_back(free=0,batch=1,remember=2)",
    "demote(after=0)",
    "demote(fast=1,slow=0,after=0,batch=1)",
    "all_of(first=demote(after=0),second=demote(fast=1,slow=0,after=1),third=swap_back(free=0.5))",
    "all_of(first=trim(low=0.9,high=0.9),second=swap_back(free=0),third=demote(after=0))",
]
SPECIFICATIONS = [*COND, *(f"all_of(second={name})" for name in COND), *EAGER]
FRAMES = 16
PAGES = 24


@pytest.mark.parametrize("cond", SPECIFICATIONS)
@examples(12)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["swapped", "returned", "turn"]), st.integers(0, 9), st.integers(0, 1)), max_size=40
    )
)
def test_it_names_pages_that_it_heard_of_and_knows_to_be_in_swap(cond, steps):
    state = State(
        CoreSettings(frames=FRAMES, page_size=PAGE, deny_budget=8, deny_budget_total=8),
        [DeviceInfo("fast", 16), DeviceInfo("slow", 16)],
        registry.make,
        float,
    )
    process = Process(1, "app", None, None, None)
    process.resident = 4
    policy = registry.make("cond", cond, MemoryView(state, process))
    known = {}
    for step, page, device in steps:
        state.now += 1.0
        if step == "swapped":
            known[page] = device
            policy.page_swapped(page, device)
        elif step == "returned":
            known.pop(page, None)
            policy.page_returned(page)
        else:
            requests = policy.turn()
            if requests is not None:
                assert requests.trim >= 0
                assert set(requests.swap_in) <= set(known)
                assert all(known[page] == 1 - device for page, device in requests.demote)


@pytest.mark.parametrize(("evict", "mechanism"), [("arc", "io at once"), ("hint_aware", "io later")])
@pytest.mark.parametrize("cond", SPECIFICATIONS)
def test_more_pages_than_frames_come_back_right_and_no_request_is_an_error(cond, evict, mechanism):
    core = make_core(frames=FRAMES, devices=(("fast", 20), ("slow", 40)), low=1, high=2, hold_budget=4)
    shell = Shell(core)
    process = shell.attach(evict=evict, cond=cond, swap_device="fast")
    region = shell.map(process, PAGES)
    shell.hint(process, region, "EVICTION=DENY", 0, 2)
    shell.hint(process, region, "SWAP=slow", 2, 2)
    shell.hint(process, region, "SWAP=fast; PRIORITY=LOW", 4, 2)
    for turn in range(2):
        for page in range(PAGES):
            shell.put(process, region, page, bytes([turn * PAGES + page + 1]) * PAGE)
            shell.tick(0.05)
        shell.auto_io = mechanism == "io at once"
        for _ in range(20):
            shell.tick(0.1)
        shell.auto_io = True
        while shell.pending:
            shell.complete_io()
        for page in reversed(range(PAGES)):
            assert shell.get(process, region, page) == bytes([turn * PAGES + page + 1]) * PAGE
            shell.tick(0.05)
    assert shell.counters()["policy_errors"] == 0
    shell.do(events.Unmap(process, region))
    shell.tick(10)
    assert core.state.swap.free == core.state.swap.slots
    assert core.state.frames.free == FRAMES
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("cond", SPECIFICATIONS)
def test_one_that_comes_later_or_goes_is_no_error(cond):
    shell = Shell(make_core(frames=FRAMES, devices=(("fast", 20), ("slow", 40))))
    process = shell.attach()
    region = shell.map(process, PAGES)
    for page in range(PAGES):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for specification in (cond, "none", cond):
        shell.do(events.SetPolicy(process, "cond", specification))
        for _ in range(20):
            shell.tick(0.1)
    assert shell.core.state.processes[process].policies.specifications["cond"] == cond
    assert shell.counters()["policy_errors"] == 0
    assert all(shell.get(process, region, page) == bytes([page + 1]) * PAGE for page in range(PAGES))
