"""The fence around a conditional policy; what comes of its requests is in test_background_reclaim.py."""

import pytest

from tests.support.made_policies import shell_with
from usmd.core.policy import ConditionalPolicy, Requests


class Requester(ConditionalPolicy):
    """Requests what it is given to request, and has no hook for pages."""

    answer: object = None

    def turn(self):
        return self.answer


def policies_that_answer(answer):
    made = type("Made", (Requester,), {"answer": answer})
    shell = shell_with({"requester": made})
    return shell.core.state.processes[shell.attach(cond="requester")].policies


@pytest.mark.parametrize(
    ("answer", "read", "errors"),
    [
        (None, (0, [], []), 0),
        (Requests(trim=3, swap_in=[5, 6], demote=[(7, 1)]), (2, [5, 6], [(7, 1)]), 0),
        (Requests(swap_in=range(9)), (0, [0, 1], []), 0),
        (Requests(trim=-1, swap_in=["x", 4], demote=[3]), (0, [4], []), 3),
        ("trim", (0, [], []), 1),
        (Requests(swap_in=None), (0, [], []), 1),
    ],
)
def test_what_is_no_number_is_an_error_and_of_each_kind_there_is_a_limit(answer, read, errors):
    policies = policies_that_answer(answer)
    assert policies.turn(2) == read
    assert policies.blame.errors["cond"] == errors


def test_a_policy_that_does_not_listen_is_told_nothing():
    policies = policies_that_answer(None)
    assert (policies.on_swapped, policies.on_returned, policies.conditional) == (None, None, True)
    policies.give_up_on("cond")
    assert not policies.conditional
    assert policies.turn(2) == (0, [], [])
