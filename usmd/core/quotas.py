"""Limits of one process in numbers: regions, ranges with a hint, faults that wait, and the budget of EVICTION=DENY.

Each is within the limit that all processes have, which `CoreSettings` says, and at most narrows it. What a process has
above a lower limit stays, and no more comes; pages above a lower budget of EVICTION=DENY lose that right, see `Limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.events import NO_QUOTAS, Quotas
from usmd.core.region import NO_MAX, limit_or_none
from usmd.core.work import Kind
from usmd.errors import InvalidArgument

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Process
    from usmd.core.settings import CoreSettings
    from usmd.core.state import State


def check(quotas: Quotas, settings: CoreSettings, before: Quotas = NO_QUOTAS) -> None:
    """Raise InvalidArgument for limits that a process cannot have; those that it had `before` it may keep."""
    for name, limit, least, most, of_each in (
        ("max_regions", quotas.max_regions, 1, settings.max_regions, " (memory.max_regions)"),
        ("max_hint_ranges", quotas.max_hint_ranges, 0, settings.max_hint_ranges, ""),
        ("max_faults", quotas.max_faults, 1, settings.max_faults, ""),
        ("deny_budget", quotas.deny_budget, 0, settings.deny_budget, " (memory.deny_budget, in pages)"),
    ):
        if limit is not None and not least <= limit <= most and limit != getattr(before, name):
            raise InvalidArgument(f"{name} of {limit}; allowed are {least} to {most}, as for every process{of_each}")


def give(process: Process, quotas: Quotas, settings: CoreSettings) -> None:
    """Give a process limits, which `check` accepted."""
    process.max_regions = NO_MAX if quotas.max_regions is None else quotas.max_regions
    process.max_hint_ranges = NO_MAX if quotas.max_hint_ranges is None else quotas.max_hint_ranges
    process.deny_budget = NO_MAX if quotas.deny_budget is None else quotas.deny_budget
    process.max_faults = settings.max_faults if quotas.max_faults is None else quotas.max_faults
    process.limit_faults(settings.max_faults)


def quotas_of(process: Process, settings: CoreSettings) -> Quotas:
    """The limits that a process has of its own."""
    return Quotas(
        limit_or_none(process.max_regions),
        limit_or_none(process.max_hint_ranges),
        None if process.max_faults >= settings.max_faults else process.max_faults,
        limit_or_none(process.deny_budget),
    )


def over_budget(state: State, life: PageLife) -> list[int]:
    """Processes that keep more pages than their budget, and do not let go of them."""
    letting_go = [each.process for each in state.work.queue if each.kind is Kind.LET_GO]
    return [
        each.process_id
        for each in state.processes.values()
        if each.unevictable + each.pinned > life.budget(each) and each not in letting_go
    ]


def regions_words(process: Process, settings: CoreSettings) -> str | None:
    """Why a process may have no more regions; None: it may."""
    count, user = len(process.regions), process.user
    if count >= process.max_regions:
        return f"the process has {count} regions; its max_regions is {process.max_regions}"
    if count >= settings.max_regions:
        return f"the process has {count} regions; memory.max_regions allows no more"
    if user is not None and (count := user.regions) >= user.max_regions:
        return f"user {user.uid} has {count} regions; its max_regions is {user.max_regions}"
    return None


def hints_words(process: Process, growth: int, settings: CoreSettings) -> str | None:
    """Why a process may not have so many more ranges with a hint; None: it may."""
    count, own, of_each, user = process.hint_ranges, process.max_hint_ranges, settings.max_hint_ranges, process.user
    whose = "the process"
    if count + growth > min(own, of_each):
        allowed = f"its max_hint_ranges is {own}" if own < of_each else f"{of_each} are allowed"
    elif user is not None and (count := user.hint_ranges) + growth > user.max_hint_ranges:
        whose, allowed = f"user {user.uid}", f"its max_hint_ranges is {user.max_hint_ranges}"
    else:
        return None
    return (
        f"{count} ranges of {whose} have a hint, this would make {growth} more, and {allowed}; hint larger ranges, or "
        "clear some"
    )
