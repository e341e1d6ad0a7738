"""The fence around a conditional policy; what comes of its wishes is in test_turns.py."""

import pytest

from tests.support.made_policies import shell_with
from usmd.core.policy import ConditionalPolicy, Wishes


class Wisher(ConditionalPolicy):
    """Wishes what it is told to, and hears of nothing."""

    wish: object = None

    def turn(self):
        return self.wish


def policies_that_wish(wish):
    made = type("Made", (Wisher,), {"wish": wish})
    shell = shell_with({"wisher": made})
    return shell.core.state.processes[shell.attach(cond="wisher")].policies


@pytest.mark.parametrize(
    ("wish", "read", "errors"),
    [
        (None, (0, [], []), 0),
        (Wishes(trim=3, swap_in=[5, 6], demote=[(7, 1)]), (2, [5, 6], [(7, 1)]), 0),
        (Wishes(swap_in=range(9)), (0, [0, 1], []), 0),
        (Wishes(trim=-1, swap_in=["x", 4], demote=[3]), (0, [4], []), 3),
        ("trim", (0, [], []), 1),
        (Wishes(swap_in=None), (0, [], []), 1),
    ],
)
def test_what_is_no_number_is_an_error_and_of_each_kind_there_is_a_limit(wish, read, errors):
    policies = policies_that_wish(wish)
    assert policies.turn(2) == read
    assert policies.errors["cond"] == errors


def test_a_policy_that_does_not_listen_is_told_nothing():
    policies = policies_that_wish(None)
    assert (policies.on_swapped, policies.on_returned, policies.conditional) == (None, None, True)
    policies.give_up_on("cond")
    assert not policies.conditional
    assert policies.turn(2) == (0, [], [])
