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


def in_swap(hint="", *, promotes=True, process_device=None, device=2):
    """The slots of a core with three devices, and region and page of a page that is on one of them."""

    def make(kind, specification, view):
        members = {"promotes": promotes} if kind == "cond" else {}
        return make_over(kind, specification, view, **members)

    shell = Shell(make_core(devices=tuple((f"device{n}", 2) for n in range(3)), make_policy=make))
    process = shell.attach(cond="trim", swap_device=process_device)
    region = shell.map(process, 1)
    shell.put(process, region, 0, b"x" * 16)
    shell.hint(process, region, f"SWAP={device}")
    shell.evict(process, region, 0, 1)
    shell.hint(process, region, hint)
    return shell, process, region


@pytest.mark.parametrize(
    ("hint", "promotes", "process_device", "device", "goes_up"),
    [
        ("", True, None, 2, True),
        ("", False, None, 2, False),
        ("", True, None, 0, False),
        ("", True, "2", 2, False),
        ("", True, "1", 2, True),
        ("SWAP=device2", True, None, 2, False),
        ("PRIORITY=LOW", True, None, 1, True),
    ],
)
def test_a_page_that_a_fault_brings_in_from_a_later_device_gives_up_its_slot_if_the_policy_promotes(
    hint, promotes, process_device, device, goes_up
):
    shell, process, region = in_swap(hint, promotes=promotes, process_device=process_device, device=device)
    shell.fault(process, region, 0)
    used = [each.slots - each.free for each in shell.core.state.swap.devices]
    assert used == [int(number == device and not goes_up) for number in range(3)]
    shell.evict(process, region, 0, 1)
    wanted = int(process_device or 0) if goes_up else device
    assert (-shell.core.state.regions[region].table[0] - 1) >> SLOT_BITS == wanted
    assert shell.get(process, region, 0) == b"x" * 16


def test_a_page_is_not_promoted_to_a_device_that_takes_none():
    shell, process, region = in_swap()
    for number in (0, 1):
        shell.core.state.swap.devices[number].full = True
    shell.fault(process, region, 0)
    assert shell.core.state.swap.devices[2].free == 1
