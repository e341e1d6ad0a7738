"""The fence around policies, seen from inside the core; what hostile policies do to a whole core is in
tests/contracts/test_hostile_policies.py.
"""

import itertools

import pytest

from tests.support.made_policies import Quiet, shell_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.policy import AllocPolicy, OomPolicy
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.policies import registry


def test_a_policy_that_does_not_exist_refuses_the_session_and_nothing_has_changed():
    shell = Shell(make_core())
    with pytest.raises(UnknownPolicy, match=r"evict policy 'mru' does not exist; there are .*fifo.*lru"):
        shell.attach(evict="mru")
    assert shell.core.state.processes == {}
    assert shell.core.handle(events.Tick(), 0.0) == []
    assert shell.attach() == 1


def test_hint_keys_that_are_none_are_passed_over_and_there_is_an_end_to_them():
    class Keys(registry.find("evict", "fifo")[0]):
        def heeded_keys(self):
            return itertools.chain([7, "x_" * (10 << 20), "priority"], itertools.repeat("TTL"))

    shell = shell_with({"keys": Keys})
    policies = shell.core.state.processes[shell.attach(evict="keys")].policies
    policies._alloc = policies._oom = policies._cond = None
    assert (policies.unheeded(parse_hint("PRIORITY=LOW; FHP=AUTO")), policies.blame.errors["evict"]) == (["FHP"], 0)


def work(shell, process, pages=10):
    """More pages than frames, all of them right."""
    region = shell.map(process, pages)
    for page in range(pages):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert all(shell.get(process, region, page) == bytes([page + 1]) * PAGE for page in range(pages))
    return region


def notices(shell, kind):
    return [each for each in shell.notices if each.kind == kind]


def test_another_policy_takes_the_place_of_one_of_each_kind_and_operators_hear_of_it():
    shell = Shell(make_core(frames=4))
    process = shell.attach(alloc="first_fit", evict="fifo", oom="refuse")
    policies = shell.core.state.processes[process].policies
    for kind, specification in (("alloc", "prealloc(pages=2)"), ("evict", "clock"), ("oom", "kill_largest")):
        shell.do(events.SetPolicy(process, kind, specification))
        assert policies.specifications[kind] == specification
    assert [(each.fields["policy_kind"], each.fields["policy"], each.fields["before"])
            for each in notices(shell, "policy_set")] == [
        ("alloc", "prealloc(pages=2)", "first_fit"), ("evict", "clock", "fifo"), ("oom", "kill_largest", "refuse"),
    ]  # fmt: skip
    region = work(shell, process)
    shell.do(events.Unmap(process, region))
    region = shell.map(process, 9)
    shell.fault(process, region, 4)
    assert [shell.state_of(region, page) for page in (4, 5, 6)] == ["PRESENT", "PRESENT", "ABSENT"]
    with pytest.raises(InvalidArgument, match="policy kind 'victim'; allowed are"):
        shell.do(events.SetPolicy(process, "victim", "clock"))
    with pytest.raises(registry.UsmdError):
        shell.do(events.SetPolicy(99, "evict", "clock"))


def test_a_policy_whose_constructor_raises_takes_no_place():
    def fails(view):
        raise ZeroDivisionError("no room")

    shell = shell_with({"broken": fails, "alloc": registry.find("alloc", "first_fit")[0]})
    process = shell.attach(evict="lru")
    region = work(shell, process)
    policies = shell.core.state.processes[process].policies
    before = list(policies.candidates(9))
    with pytest.raises(InvalidArgument, match=r"broken: its constructor raised ZeroDivisionError\('no room'"):
        shell.do(events.SetPolicy(process, "evict", "broken"))
    with pytest.raises(InvalidArgument, match="alloc is a FirstFit, not a policy of kind evict"):
        shell.do(events.SetPolicy(process, "evict", "alloc"))
    assert (list(policies.candidates(9)), policies.specifications["evict"]) == (before, "lru")
    assert shell.get(process, region, 0) == b"\1" * PAGE
    assert shell.counters()["policy_errors"] == 0


def test_a_policy_that_makes_too_many_errors_makes_room_for_the_default():
    class Broken(Quiet):
        def page_filled(self, pfn):
            raise ValueError("broken")

    shell = shell_with({"broken": Broken}, policy_errors=5, default_policies=("first_fit", "lru", "refuse"))
    process, other = shell.attach(evict="broken"), shell.attach(evict="broken")
    region = shell.map(process, 6)
    policies = shell.core.state.processes[process].policies
    for page in range(5):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert (policies.specifications["evict"], policies.blame.errors["evict"]) == ("broken", 5)
    shell.put(process, region, 5, b"\6" * PAGE)
    assert (policies.specifications["evict"], policies.blame.errors["evict"]) == ("lru", 0)
    assert policies.blame.misbehaving == {}
    (notice,) = notices(shell, "policy_replaced")
    assert notice.fields == {
        "policy_kind": "evict", "policy": "broken", "errors": "6", "did": "made 6 errors", "replaced_by": "lru",
        "returns_in": "60",
    }  # fmt: skip
    assert sorted(policies.candidates(9)) == [0, 1, 2, 3], "the new one knows what the old one would not hear of"
    assert all(shell.get(process, region, page) == bytes([page + 1]) * PAGE for page in range(6))
    assert shell.core.state.processes[other].policies.specifications["evict"] == "broken"
    assert shell.counters()["policy_errors"] == 6


@pytest.mark.parametrize("kind", ["alloc", "evict", "oom"])
def test_where_the_default_itself_makes_too_many_errors_the_cores_own_takes_its_place(kind):
    class Alloc(AllocPolicy):
        def allocate(self, fault, async_rq):
            raise ValueError("broken")

    class Oom(OomPolicy):
        def choose(self, fault):
            raise ValueError("broken")

    class Evict(Quiet):
        def choose_victims(self):
            raise ValueError("broken")

    made = {"alloc": Alloc, "evict": Evict, "oom": Oom}[kind]
    defaults = tuple("broken" if each == kind else default for each, default in
                     (("alloc", "first_fit"), ("evict", "lru"), ("oom", "refuse")))  # fmt: skip
    shell = shell_with({"broken": made}, policy_errors=3, default_policies=defaults)
    process = shell.attach(**{kind: "broken"})
    policies = shell.core.state.processes[process].policies
    region = work(shell, process)
    shell.hint(process, region, "EVICTION=DENY")
    for page in range(10):  # until all of memory is unevictable, so that the oom policy has its say
        for _ in range(5):
            shell.fault(process, region, page)
    shell.hint(process, region, "")
    assert policies.specifications[kind] == "none"
    (notice,) = notices(shell, "policy_replaced")
    assert notice.fields["replaced_by"] == "the core's own default (broken itself misbehaved)"
    errors = shell.counters()["policy_errors"]
    assert errors == 4
    work(shell, process)
    assert shell.counters()["policy_errors"] == errors
    assert policies.out_of_memory(None) is None
    shell.do(events.SetPolicy(process, kind, {"alloc": "first_fit", "evict": "clock", "oom": "refuse"}[kind]))
    work(shell, process)
    assert shell.counters()["policy_errors"] == errors
    if kind == "evict":
        assert len(list(policies.candidates(9))) == 4


def test_a_default_that_cannot_be_made_is_replaced_by_the_cores_own():
    def fails(view):
        raise ZeroDivisionError

    class Broken(Quiet):
        def page_filled(self, pfn):
            raise ValueError("broken")

    shell = shell_with(
        {"broken": Broken, "no default": fails}, policy_errors=1, default_policies=("first_fit", "no default", "refuse")
    )
    process = shell.attach(evict="broken")
    work(shell, process)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "none"
    assert "its constructor raised ZeroDivisionError" in notices(shell, "policy_replaced")[0].fields["replaced_by"]


def test_without_a_limit_no_policy_is_replaced():
    class Broken(Quiet):
        def page_filled(self, pfn):
            raise ValueError("broken")

    shell = shell_with({"broken": Broken}, policy_errors=0)
    process = shell.attach(evict="broken")
    work(shell, process, pages=60)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "broken"
    assert notices(shell, "policy_replaced") == []


def test_a_policy_that_ends_with_its_process_is_not_replaced_in_vain():
    class Broken(Quiet):
        def page_left(self, pfn):
            raise ValueError("broken")

    shell = shell_with({"broken": Broken}, policy_errors=1)
    process = shell.attach(evict="broken")
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    shell.do(events.Detach(process, "bye"))
    assert isinstance(shell.ended[process], commands.Ended)
    assert shell.core.state.frames.free == 4
    assert shell.attach(evict="lru") != process


def test_the_answer_about_a_batch_is_checked_and_without_one_each_page_is_asked_about():
    class Batches(registry.find("alloc", "first_fit")[0]):
        answer = 0

        def come_alone(self, region_id, pages):
            if self.answer is None:
                raise ValueError("it says nothing")
            return self.answer

    class OfOneItself(Batches):
        def allocate(self, fault, async_rq):
            return super().allocate(fault, async_rq)

    shell = shell_with({"batches": Batches, "plain": OfOneItself})
    policies = shell.core.state.processes[shell.attach(alloc="batches")].policies
    for answer, used, errors in ((2, 2, 0), (0, 0, 0), (4, 0, 1), (-1, 0, 2), (True, 0, 3), ("2", 0, 4), (None, 0, 5)):
        Batches.answer = answer
        assert (policies.come_alone(1, [1, 2, 3]), policies.blame.errors["alloc"]) == (used, errors)
    Batches.answer = 2
    policies.give_up_on("alloc")
    assert policies.come_alone(1, [1, 2, 3]) == 3, "without a policy each page comes in alone"
    assert shell.core.state.processes[shell.attach(alloc="plain")].policies.come_alone(1, [1, 2, 3]) == 0


def test_a_policy_that_cannot_say_whether_it_answers_batches_does_not():
    class Raises(registry.find("alloc", "first_fit")[0]):
        @property
        def answers_batches(self):
            raise ValueError("it cannot say")

    shell = shell_with({"raises": Raises})
    policies = shell.core.state.processes[shell.attach(alloc="raises")].policies
    assert (policies.come_alone(1, [1, 2]), policies.blame.errors["alloc"]) == (0, 1)
