"""Faults that wait for memory that is not there: for how long, what ends it, and that others go on."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.in_swap import resident
from tests.support.real_app import DATA, App
from tests.support.real_shell import DONE, SIGBUS, WAITS
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.commands import Allocated, Failed
from usmd.core.freezing import MOST_EXPIRED, RETRY_SECONDS, TRIED
from usmd.core.hints import parse_hint

TICK = 0.1


def full(frames=2, **settings):
    """A shell whose memory another process has filled, that process and its region, and one that freezes."""
    shell = Shell(make_core(frames=frames, devices=(), **settings))
    owner, frozen = shell.attach("owner"), shell.attach("frozen", oom="freeze(seconds=10)")
    return shell, owner, resident(shell, owner, frames), frozen


def kinds(shell):
    return [each.kind for each in shell.notices if "fro" in each.kind or "thaw" in each.kind]


def test_a_fault_waits_until_memory_is_free_and_others_go_on_meanwhile():
    shell, owner, theirs, process = full()
    region = shell.map(process, 4)
    assert shell.fault(process, region, 0, fault_id=1) == []
    assert shell.fault(process, region, 1, fault_id=2) == []
    assert shell.get(owner, theirs, 1) == b"x" * PAGE
    assert isinstance(shell.fault(owner, shell.map(owner, 1), 0)[-1], Failed)
    assert [(each.process.name, len(each.pages)) for each in shell.core.frozen.values()] == [("frozen", 2)]
    shell.now = 3.0
    shell.do(events.Unmap(owner, theirs))
    assert [(each.fault_id, type(each)) for each in shell.outcomes[process]] == [(1, Allocated), (2, Allocated)]
    assert shell.core.frozen == {}
    assert kinds(shell) == ["process_frozen", "process_thawed"]
    assert shell.notices[-1].fields == {"name": "frozen", "seconds": "3.0", "refused": "0"}
    assert (shell.counters()["oom_freezes"], shell.counters()["oom_refusals"]) == (2, 1)


def test_each_fault_fails_when_its_own_time_is_over_as_it_would_have_at_once():
    shell, _, _, process = full()
    region = shell.map(process, 4)
    shell.fault(process, region, 0, fault_id=1)
    shell.tick(6.0)
    shell.fault(process, region, 1, fault_id=2)
    shell.tick(3.9)
    assert process not in shell.outcomes
    shell.tick(TICK)
    (first,) = shell.outcomes[process]
    assert (first.fault_id, first.error.reason) == (1, "OUT_OF_MEMORY")
    assert "no frame for page 0" in str(first.error)
    assert str(first.error).endswith("it waited 10 s for memory")
    shell.tick(5.9)
    assert len(shell.outcomes[process]) == 1
    shell.tick(TICK)
    assert shell.outcomes[process][1].fault_id == 2
    assert shell.core.frozen == {}
    assert shell.notices[-1].fields["refused"] == "2"


def test_memory_that_can_be_evicted_again_is_found_without_a_free_frame():
    shell = Shell(make_core(frames=2))
    owner, process = shell.attach(), shell.attach(oom="freeze")
    region, mine = resident(shell, owner, 2), shell.map(process, 1)
    shell.hint(owner, region, "EVICTION=DENY")
    assert shell.fault(process, mine, 0) == []
    shell.hint(owner, region, "")
    shell.tick(RETRY_SECONDS)
    assert isinstance(shell.outcomes[process][0], Allocated)
    assert kinds(shell) == ["process_frozen", "process_thawed"]


def test_frozen_processes_get_frames_in_turn_and_each_its_oldest_fault_first():
    shell, owner, theirs, one = full(frames=3)
    two = shell.attach("two", oom="freeze(seconds=10)")
    regions = {process: shell.map(process, 4) for process in (one, two)}
    for process, page in ((one, 0), (one, 1), (two, 0)):
        shell.fault(process, regions[process], page)
    shell.hint(owner, theirs, "")
    shell.do(events.Discard(owner, theirs, 0, 2, 1))
    assert [outcome.runs[0][0] for outcome in shell.outcomes[one] + shell.outcomes[two]] == [0, 0]
    assert list(shell.core.frozen) == [one]


def test_the_end_of_a_region_or_session_ends_the_waits_for_it():
    shell, _, _, process = full()
    one, two = shell.map(process, 1), shell.map(process, 1)
    shell.fault(process, one, 0, fault_id=1)
    shell.fault(process, two, 0, fault_id=2)
    shell.do(events.Unmap(process, one))
    assert [(each.fault_id, each.error.reason) for each in shell.outcomes[process]] == [(1, "UNMAPPED")]
    shell.do(events.Detach(process, "bye"))
    assert shell.core.frozen == {}
    shell.tick(20.0)
    assert kinds(shell) == ["process_frozen"]


def test_a_policy_set_meanwhile_decides_at_the_next_try():
    shell, _, _, process = full()
    shell.fault(process, shell.map(process, 1), 0)
    shell.do(events.SetPolicy(process, "oom", "refuse"))
    shell.tick(RETRY_SECONDS)
    (failed,) = shell.outcomes[process]
    assert isinstance(failed, Failed)
    assert "waited" not in str(failed.error)
    assert shell.notices[-1].fields["refused"] == "1"


def test_a_policy_that_kills_frees_the_memory_that_frozen_faults_wait_for():
    shell, owner, _, process = full()
    shell.fault(process, shell.map(process, 1), 0)
    killer = shell.attach(oom="kill_largest")
    assert isinstance(shell.fault(killer, shell.map(killer, 1), 0)[-1], Allocated)
    assert shell.ended[owner].killed
    assert isinstance(shell.outcomes[process][-1], Allocated)


def test_very_many_that_end_at_once_end_in_several_events():
    shell, _, _, process = full()
    region = shell.map(process, 2 * MOST_EXPIRED + 9)
    for page in range(2 * MOST_EXPIRED + 9):
        shell.fault(process, region, page, fault_id=page)
    shell.hold_go_on = True
    shell.tick(10.0)
    ended = [len(shell.outcomes[process])]
    while shell.asked:
        shell.do_work()
        ended.append(len(shell.outcomes[process]))
    assert ended == [MOST_EXPIRED + 1, 2 * MOST_EXPIRED + 1, 2 * MOST_EXPIRED + 9]  # one was due for another try


def test_of_very_many_frozen_processes_some_are_tried_each_time():
    shell = Shell(make_core(frames=1, devices=()))
    resident(shell, shell.attach(), 1)
    processes = [shell.attach(oom="freeze") for _ in range(TRIED + 2)]
    for process in processes:
        shell.fault(process, shell.map(process, 1), 0)
    assert list(shell.core.frozen) == processes
    shell.tick(RETRY_SECONDS)
    assert list(shell.core.frozen) == [*processes[TRIED:], *processes[:TRIED]]


def test_that_a_process_freezes_is_reported_the_1st_2nd_4th_time():
    shell, owner, theirs, process = full(frames=1)
    for _ in range(4):
        region = shell.map(process, 1)
        shell.fault(process, region, 0)
        shell.do(events.Unmap(process, region))
        shell.tick()
    assert [each.fields["times"] for each in shell.notices if each.kind == "process_frozen"] == ["1", "2", "4"]
    assert kinds(shell) == ["process_frozen", "process_thawed"] * 3
    assert shell.get(owner, theirs, 0) == b"x" * PAGE


def test_a_thread_of_real_memory_waits_and_goes_on_or_gets_sigbus():
    app = App(frames=1, devices=(), oom="freeze(seconds=10)")
    app.touch(0, DATA)
    first = app.touch(1, DATA)
    assert first.state == WAITS
    app.shell.do(events.Discard(app.process, app.region, 0, 1, 1))
    assert first.state == DONE
    second = app.touch(2, DATA)
    app.shell.tick(10.0)
    assert second.state == SIGBUS


FAULT = st.tuples(st.just("fault"), st.integers(0, 2), st.integers(0, 3))
STEP = st.one_of(
    FAULT, FAULT, st.tuples(st.just("unmap"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("tick"), st.sampled_from([0.1, 1.0, 4.0]), st.just(0)),
    st.tuples(st.just("deny"), st.integers(0, 2), st.booleans()),
)  # fmt: skip
PATIENCE = (0.0, 2.0, 5.0)
"""Of the three processes; the first one refuses."""


@given(st.lists(STEP, min_size=1, max_size=40))
def test_no_fault_waits_longer_than_its_time_nor_while_there_is_a_frame(steps):
    shell = Shell(make_core(frames=3, devices=(("swap0", 2),), hold_budget=0))
    processes = [shell.attach(oom=f"freeze(seconds={time})" if time else "refuse") for time in PATIENCE]
    regions = [shell.map(process, 4) for process in processes]
    began = {}
    for number, (what, which, how) in enumerate(steps):
        match what:
            case "fault":
                began[processes[which], number] = shell.now, PATIENCE[which]
                shell.fault(processes[which], regions[which], how, write=True, fault_id=number)
                shell.store(processes[which], regions[which], how, b"x" * PAGE)
            case "unmap":
                shell.do(events.Unmap(processes[which], regions[which]))
                regions[which] = shell.map(processes[which], 4)
            case "deny":
                hint = parse_hint("EVICTION=DENY" if how else "")
                shell.do(events.SetHint(processes[which], regions[which], 0, None, hint))
            case "tick":
                shell.tick(which)
        for process in processes:
            for outcome in shell.outcomes.pop(process, []):
                began.pop((process, outcome.fault_id), None)
        frozen = {
            (process, page.waiter.fault.fault_id) for process, each in shell.core.frozen.items() for page in each.pages
        }
        assert began.keys() == frozen
        assert all(shell.now < since + patience for since, patience in began.values())
        assert not frozen or shell.core.state.frames.free <= 1  # the last one is for pages from swap
    shell.tick(max(PATIENCE))
    assert shell.core.frozen == {}
