"""Limits of a process in numbers, within those of every process."""

import msgspec
import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events, quotas
from usmd.core.events import Quotas
from usmd.core.region import Process
from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument, LimitExceeded

SETTINGS = CoreSettings(
    frames=8, page_size=PAGE, deny_budget=4, deny_budget_total=6, max_regions=5, max_hint_ranges=6, max_faults=7
)


@pytest.mark.parametrize(
    "given", [Quotas(), Quotas(5, 6, None, 4), Quotas(1, 0, 1, 0), Quotas(max_faults=3), Quotas(deny_budget=2)]
)
def test_what_a_process_is_given_is_what_it_has(given):
    process = Process(1, "app", None, None, None)
    quotas.check(given, SETTINGS)
    quotas.give(process, Quotas(2, 2, 2, 2), SETTINGS)
    quotas.give(process, given, SETTINGS)
    assert quotas.quotas_of(process, SETTINGS) == given
    assert process.max_faults == (given.max_faults or SETTINGS.max_faults)
    assert process.faults_limited == (given.max_faults is not None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Quotas(max_regions=6), r"max_regions of 6; allowed are 1 to 5, as for every process \(memory.max_regions\)$"),
        (Quotas(max_regions=0), "max_regions of 0; allowed are 1 to 5"),
        (Quotas(max_hint_ranges=7), "max_hint_ranges of 7; allowed are 0 to 6, as for every process$"),
        (Quotas(max_faults=8), "max_faults of 8; allowed are 1 to 7"),
        (Quotas(max_faults=0), "max_faults of 0; allowed are 1 to 7"),
        (Quotas(deny_budget=5), r"deny_budget of 5; allowed are 0 to 4, .*memory.deny_budget, in pages\)$"),
        (Quotas(deny_budget=-1), "deny_budget of -1; allowed are 0 to 4"),
    ],
)
def test_a_limit_may_only_narrow_that_of_every_process(given, said):
    with pytest.raises(InvalidArgument, match=said):
        quotas.check(given, SETTINGS)
    shell = Shell(make_core(deny_budget=4, max_regions=5, max_hint_ranges=6, max_faults=7))
    with pytest.raises(InvalidArgument, match=said):
        shell.attach(quotas=given)
    process = shell.attach()
    with pytest.raises(InvalidArgument, match=said):
        shell.do(events.SetLimits(process, None, None, 0, 100, given))
    assert quotas.quotas_of(shell.core.state.processes[process], shell.core.state.settings) == Quotas()


def test_a_limit_above_a_lower_one_of_every_process_stays_while_others_change():
    shell = Shell(make_core(max_regions=5))
    process = shell.attach(quotas=Quotas(max_regions=4))
    shell.core.state.settings = msgspec.structs.replace(shell.core.state.settings, max_regions=2)
    shell.do(events.SetLimits(process, None, None, 0, 100, Quotas(max_regions=4, max_faults=9)))
    for _ in range(2):
        shell.map(process, 1)
    with pytest.raises(LimitExceeded, match=r"2 regions; memory.max_regions allows no more"):
        shell.map(process, 1)
    with pytest.raises(InvalidArgument, match="max_regions of 3; allowed are 1 to 2"):
        shell.do(events.SetLimits(process, None, None, 0, 100, Quotas(max_regions=3)))


def test_at_its_own_limit_of_regions_a_process_is_refused_and_another_one_is_not():
    shell = Shell(make_core(max_regions=3))
    process, other = shell.attach(quotas=Quotas(max_regions=2)), shell.attach()
    regions = [shell.map(process, 1) for _ in range(2)]
    with pytest.raises(LimitExceeded, match=r"^the process has 2 regions; its max_regions is 2$"):
        shell.map(process, 1)
    for _ in range(3):
        shell.map(other, 1)
    with pytest.raises(LimitExceeded, match=r"^the process has 3 regions; memory.max_regions allows no more$"):
        shell.map(other, 1)
    shell.do(events.SetLimits(process, None, None, 0, 100, Quotas(max_regions=1)))
    shell.do(events.Unmap(process, regions.pop()))
    with pytest.raises(LimitExceeded, match="has 1 regions; its max_regions is 1"):
        shell.map(process, 1)
    shell.do(events.SetLimits(process, None, None, 0, 100))
    shell.map(process, 1)


def test_at_its_own_limit_of_hint_ranges_a_process_is_refused_and_another_one_is_not():
    shell = Shell(make_core(max_hint_ranges=3))
    process, other = shell.attach(quotas=Quotas(max_hint_ranges=1)), shell.attach()
    region, others = shell.map(process, 8), shell.map(other, 8)
    shell.hint(process, region, "PRIORITY=HIGH", 0, 1)
    with pytest.raises(LimitExceeded, match=r"^1 ranges .* 1 more, and its max_hint_ranges is 1; hint larger ranges"):
        shell.hint(process, region, "PRIORITY=HIGH", 2, 1)
    shell.hint(process, region, "PRIORITY=HIGH", 0, 8)
    for page in (0, 2, 4):
        shell.hint(other, others, "PRIORITY=HIGH", page, 1)
    with pytest.raises(LimitExceeded, match=r"^3 ranges .* and 3 are allowed"):
        shell.hint(other, others, "PRIORITY=HIGH", 6, 1)
