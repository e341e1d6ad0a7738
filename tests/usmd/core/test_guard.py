"""The fence around policies, seen from inside the core; what hostile policies do to a whole core is in
tests/contracts/test_hostile_policies.py.
"""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.guard import place, shown
from usmd.errors import UnknownPolicy
from usmd.policies import registry


def test_what_cannot_be_shown_is_shown_by_its_type():
    class Bad:
        def __repr__(self):
            raise ValueError("no")

    assert shown(Bad()) == "a Bad that cannot be shown"
    assert shown(10**5000) == "a int that cannot be shown"
    assert (shown([1]), len(shown("x" * 999))) == ("[1]", 200)


def test_a_policy_that_does_not_exist_refuses_the_session_and_nothing_has_changed():
    shell = Shell(make_core())
    with pytest.raises(UnknownPolicy, match=r"evict policy 'mru' does not exist; there are .*fifo.*lru"):
        shell.attach(evict="mru")
    assert shell.core.state.processes == {}
    assert shell.core.handle(events.Tick(), 0.0) == []
    assert shell.attach() == 1


def test_only_a_policy_that_listens_hears_of_accesses():
    shell = Shell(make_core())
    listening, deaf = (shell.core.state.processes[shell.attach(evict=name)].policies for name in ("lru", "fifo"))
    assert listening.on_access is not None
    assert deaf.on_access is None


def test_candidates_are_at_most_the_limit():
    shell = Shell(make_core())
    process = shell.attach()
    region = shell.map(process, 5)
    for page in range(5):
        shell.put(process, region, page, b"x" * PAGE)
    policies = shell.core.state.processes[process].policies
    assert list(policies.candidates(3)) == [0, 1, 2]


def test_a_long_reason_is_cut():
    shell = Shell(make_core())
    policies = shell.core.state.processes[shell.attach()].policies
    policies._evict.reason = lambda pfn: "because " * 100
    assert len(policies.reason(0)) == 200


def test_a_report_says_where_the_policy_raised():
    class Broken(registry.find("evict", "fifo")[0]):
        def page_filled(self, pfn):
            self.helper()

        def helper(self):
            raise KeyError("no such thing")

    shell = Shell(
        make_core(
            make_policy=lambda kind, text, view: Broken(view) if kind == "evict" else registry.make(kind, text, view)
        )
    )
    process = shell.attach()
    shell.fault(process, shell.map(process, 1), 0)
    (message,) = [each.message for each in shell.notices if each.kind == "policy_error"]
    line = Broken.helper.__code__.co_firstlineno + 1
    assert f"page_filled raised KeyError('no such thing') ({__file__}:{line})" in message
    assert place(KeyError()) == ""
