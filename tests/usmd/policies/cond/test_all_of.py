"""all_of: several at once."""

import pytest

from tests.support.fake_view import fake_view
from tests.support.requests import Requester
from tests.support.shell import Shell, make_core
from usmd.core.policy import Requests
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.policies import registry
from usmd.policies.cond.all_of import AllOf


def three():
    memory = fake_view(now=0.0)
    memory.make = lambda kind, name: Requester(memory)
    policy = AllOf(memory)
    return policy, policy.parts


def test_what_they_request_adds_up():
    policy, (one, two, other) = three()
    one.requests = Requests(trim=2, swap_in=[1, 2])
    two.requests = Requests(trim=5, swap_in=[3], demote=[(4, 0)])
    requests = policy.turn()
    assert (requests.trim, list(requests.swap_in), list(requests.demote)) == (5, [1, 2, 3], [(4, 0)])
    assert [len(each.turns) for each in (one, two, other)] == [1, 1, 1]
    assert policy.turn() is None


def test_each_hears_of_everything():
    policy, parts = three()
    policy.page_swapped(7, 1)
    policy.page_returned(7)
    assert all(each.told == [("swapped", 7, 1), ("returned", 7, None)] for each in parts)


def test_its_parts_are_named_by_their_specification():
    shell = Shell(make_core())
    process = shell.core.state.processes[shell.attach()]
    text = "all_of(first=trim(low=0.1,high=0.2),second=all_of(first=demote))"
    policy = registry.make("cond", text, MemoryView(shell.core.state, process))
    assert [type(part).__name__ for part in policy.parts] == ["Trim", "AllOf", "Nothing"]
    assert policy.parts[0].low == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("all_of(first=nothing)", UnknownPolicy),
        ("all_of(third=trim(low=2))", InvalidArgument),
        ("all_of(x=trim)", InvalidArgument),
    ],
)
def test_a_part_that_does_not_exist_is_refused(text, error):
    with pytest.raises(error):
        Shell(make_core()).attach(cond=text)
