"""Which device a page may go to: as its hint says, else its evict policy, else its process; and what it may not."""

import pytest

from tests.support.made_policies import make_over
from tests.support.shell import Shell, make_core
from usmd.core.in_flight import ANYWHERE
from usmd.core.swap_map import RETIRING, SLOT_BITS


def page(hint="", *, policy=None, process_device=None):
    """The slots of a core with three devices, and region, page and frame of a page under a hint."""

    def make(kind, specification, view):
        members = {"swap_device": lambda self, pfn: policy} if kind == "evict" else {}
        return make_over(kind, specification, view, **members)

    shell = Shell(make_core(devices=tuple((f"device{n}", 2) for n in range(3)), make_policy=make))
    process = shell.attach(swap_device=process_device)
    region = shell.map(process, 1)
    shell.hint(process, region, hint)
    shell.fault(process, region, 0)
    return shell.core.life.slots, (shell.core.state.regions[region], 0, 0)


@pytest.mark.parametrize(
    ("hint", "policy", "process_device", "device"),
    [
        ("", None, None, 0),
        ("", None, "2", 2),
        ("", 1, "2", 1),
        ("SWAP=2", 1, "0", 2),
        ("SWAP=device2", 1, "0", 2),
        ("PRIORITY=LOW", None, "1", 1),
    ],
)
def test_a_page_goes_where_its_hint_says_else_its_policy_else_its_process(hint, policy, process_device, device):
    slots, where = page(hint, policy=policy, process_device=process_device)
    assert slots.take(*where) >> SLOT_BITS == device


def test_what_is_full_or_has_refused_the_page_is_passed_over():
    slots, where = page("SWAP=1")
    assert [slots.take(*where) >> SLOT_BITS for _ in range(3)] == [1, 1, 0]
    assert slots.take(*where, refused=0b001) >> SLOT_BITS == 2
    assert slots.take(*where, refused=0b111) is None


def test_a_page_that_migrates_takes_a_slot_of_that_device_and_of_no_other():
    slots, where = page("SWAP=1")
    assert slots.take(*where, device=2, refused=0b100) is None
    assert [slots.take(*where, device=2) is None for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("hint", "may"), [("", True), ("PRIORITY=LOW", True), ("SWAP=2", True), ("SWAP=1", False), ("EVICTION=DENY", False)]
)
def test_a_page_migrates_unless_its_hint_says_otherwise(hint, may):
    slots, (region, number, _) = page(hint)
    assert slots.may_migrate(region, number, 2) == may


def test_a_page_whose_device_retires_takes_a_slot_of_any_other_the_hinted_one_first():
    slots, where = page(policy=1)
    assert slots.take(*where, device=ANYWHERE) >> SLOT_BITS == 0  # the policy does not know of the page
    slots, where = page("SWAP=1")
    assert slots.take(*where, device=ANYWHERE) >> SLOT_BITS == 1
    slots._swap.devices[1].status = RETIRING
    assert slots.take(*where, device=ANYWHERE, refused=0b001) >> SLOT_BITS == 2
