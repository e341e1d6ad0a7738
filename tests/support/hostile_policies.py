"""What makes a policy hostile, and shells that use it as the policy `hostile`."""

from tests.support.shell import PAGE, Shell, make_core
from usmd.policies import registry

PAGES = 12
HOOKS = (
    "page_filled", "page_left", "page_evicted", "page_missed", "choose_victims", "page_accessed", "reason",
    "swap_device",
)  # fmt: skip


class Unshowable:
    """An object that cannot even be printed."""

    def __repr__(self):
        raise RuntimeError("no")


HUGE = 10**5000
"""An int that Python refuses to print."""


def shell_with(policies, **settings):
    """A shell whose specification `hostile` is one of `policies`, by kind."""

    def make(kind, specification, memory):
        if specification == "hostile":
            return policies[kind](memory)
        return registry.make(kind, specification, memory)

    return Shell(make_core(make_policy=make, **{"frames": 4, "hold_budget": 2, **settings}))


def work(shell, process):
    """Three times more pages than frames, all of them right."""
    region = shell.map(process, PAGES)
    for page in range(PAGES):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in range(PAGES):
        for _ in range(2):  # the second is a touch of a page that is there
            assert shell.get(process, region, page) == bytes([page + 1]) * PAGE


def assert_reported(shell, kind, *, notice="policy_error", counter="policy_errors"):
    assert shell.counters()[counter] > 0
    told = [each for each in shell.notices if each.kind == notice]
    assert told
    assert all(each.fields["policy_kind"] == kind for each in told)
    assert all(len(each.message) < 500 for each in told)
