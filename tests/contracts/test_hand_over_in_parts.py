"""A change of the evict policy of a process with more pages than one event may take: nothing is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.frames import KEPT, PRESENT
from usmd.core.policy import EvictPolicy
from usmd.core.validate import violations
from usmd.core.work import PAGES_AN_EVENT
from usmd.policies import registry

PAGES = 3 * PAGES_AN_EVENT + 17
EVICT = sorted(set(registry.TABLES["evict"]) - {"belady"})


class InParts(Shell):
    """A shell that says GoOn only when it is told to."""

    asked = False

    def _perform(self, command):
        if isinstance(command, commands.GoOn):
            self.asked = True
            return
        yield from super()._perform(command)

    def part(self):
        """Do the next part; tells whether there was one."""
        if not self.asked:
            return False
        self.asked = False
        self.do(events.GoOn())
        return True


def filled(evict, frames=PAGES + 8, pages=PAGES, **more):
    shell = InParts(make_core(frames=frames, devices=(("swap0", 4 * PAGES),), **more), check=False)
    process = shell.attach(evict=evict)
    region = shell.map(process, 2 * PAGES)
    for page in range(pages):
        shell.put(process, region, page, page.to_bytes(2, "big") * (PAGE // 2))
    return shell, process, region


def known_to_the_policy(shell, process):
    return list(shell.core.state.processes[process].policies.candidates(10 * PAGES))


def evictable(shell):
    frames = shell.core.state.frames
    return [pfn for pfn in range(frames.count) if frames.state[pfn] == PRESENT and not frames.flags[pfn] & KEPT]


def finish(shell):
    parts = 1
    while shell.part():
        parts += 1
    return parts


@pytest.mark.parametrize("after", EVICT)
def test_all_pages_are_handed_over_part_by_part(after):
    shell, process, _ = filled("lru")
    shell.do(events.SetPolicy(process, "evict", after))
    assert len(known_to_the_policy(shell, process)) == PAGES_AN_EVENT
    assert finish(shell) > 3
    assert sorted(known_to_the_policy(shell, process)) == evictable(shell)
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("before", EVICT)
def test_fifo_gets_them_in_the_order_in_which_the_policy_before_would_have_evicted_them(before):
    shell, process, region = filled(before)
    for page in range(0, PAGES, 3):
        shell.get(process, region, page)
    expected = known_to_the_policy(shell, process)
    twin, same, other = filled(before)
    for page in range(0, PAGES, 3):
        twin.get(same, other, page)
    twin.do(events.SetPolicy(same, "evict", "fifo"))
    finish(twin)
    assert known_to_the_policy(twin, same) == expected


@pytest.mark.parametrize("after", EVICT)
def test_faults_touches_hints_and_evictions_between_the_parts_harm_nothing(after):
    shell, process, region = filled("hint_aware", frames=PAGES // 2, pages=PAGES)
    shell.do(events.SetPolicy(process, "evict", after))
    page = 0
    while True:
        shell.hint(process, region, "PRIORITY=HIGH", page, 5)
        shell.hint(process, region, "EVICTION=DENY", page + 7, 3)
        for each in range(page, page + 40):
            assert shell.get(process, region, each) == each.to_bytes(2, "big") * (PAGE // 2)
        shell.put(process, region, PAGES + page, b"n" * PAGE)
        shell.evict(process, region, page, 11)
        shell.hint(process, region, "", page + 7, 3)
        page += 40
        assert violations(shell.core) == []
        if not shell.part():
            break
    finish(shell)
    assert sorted(known_to_the_policy(shell, process)) == evictable(shell)
    assert shell.counters()["policy_errors"] == 0
    for each in range(PAGES):
        assert shell.get(process, region, each) == each.to_bytes(2, "big") * (PAGE // 2)


@examples(10)
@given(chain=st.lists(st.tuples(st.sampled_from(EVICT), st.integers(0, 5)), min_size=2, max_size=5))
def test_another_change_before_the_last_one_is_done_takes_over_what_there_is(chain):
    shell, process, region = filled("lru")
    for after, parts in chain:
        shell.do(events.SetPolicy(process, "evict", after))
        shell.get(process, region, 3)
        for _ in range(parts):
            shell.part()
    finish(shell)
    assert sorted(known_to_the_policy(shell, process)) == evictable(shell)
    assert shell.core.state.processes[process].policies.specifications["evict"] == chain[-1][0]
    assert shell.counters()["policy_errors"] == 0


def test_a_session_that_ends_meanwhile_and_a_region_that_goes_end_it_quietly():
    shell, process, region = filled("lru")
    shell.do(events.SetPolicy(process, "evict", "arc"))
    shell.do(events.Unmap(process, region))
    finish(shell)
    assert known_to_the_policy(shell, process) == []
    shell, process, region = filled("lru")
    shell.do(events.SetPolicy(process, "evict", "arc"))
    shell.do(events.Detach(process, "bye"))
    finish(shell)
    assert violations(shell.core) == []
    assert shell.counters()["policy_errors"] == 0


class Unwilling(EvictPolicy):
    """Raises whatever it is asked."""

    def page_filled(self, pfn):
        raise RuntimeError("filled")

    def page_left(self, pfn):
        raise RuntimeError("left")

    def choose_victims(self):
        raise RuntimeError("victims")


def test_a_policy_that_makes_too_many_errors_hands_over_to_the_default():
    def make(kind, specification, memory):
        return Unwilling(memory) if specification == "unwilling" else registry.make(kind, specification, memory)

    shell, process, region = filled("unwilling", make_policy=make, policy_errors=20)
    policies = shell.core.state.processes[process].policies
    finish(shell)
    assert policies.specifications["evict"] == "hint_aware"
    assert [each.fields["policy"] for each in shell.notices if each.kind == "policy_replaced"] == ["unwilling"]
    assert sorted(known_to_the_policy(shell, process)) == evictable(shell)
    assert shell.get(process, region, 5) == (5).to_bytes(2, "big") * (PAGE // 2)
