"""A change of the evict policy; that every pair of policies agrees is in tests/contracts/test_hand_over.py."""

from tests.support.made_policies import Quiet, shell_with
from tests.support.shell import PAGE
from usmd.core import events


class Hears(Quiet):
    """Notes which frames it hears of."""

    def __init__(self, memory):
        super().__init__(memory)
        self.frames = []

    def page_filled(self, pfn):
        self.frames.append(pfn)


def test_a_new_policy_hears_of_the_pages_in_the_order_of_the_old_one():
    shell = shell_with({"hears": Hears}, frames=8)
    process = shell.attach(evict="lru")
    region = shell.map(process, 4)
    for page in (0, 1, 2, 3, 1):
        shell.put(process, region, page, b"x" * PAGE)
    shell.do(events.SetPolicy(process, "evict", "hears"))
    policies = shell.core.state.processes[process].policies
    assert policies._evict.frames == [0, 2, 3, 1]
    assert policies.specifications["evict"] == "hears"


def test_a_page_that_the_old_policy_did_not_name_is_handed_over_too():
    shell = shell_with({"quiet": Quiet, "hears": Hears}, frames=8)
    process = shell.attach(evict="quiet")
    region = shell.map(process, 3)
    shell.fault(process, region, 0, 3)
    shell.do(events.SetPolicy(process, "evict", "hears"))
    assert shell.core.state.processes[process].policies._evict.frames == [0, 1, 2]
