"""Metrics of users with limits: a line for each of those with most memory, and one for all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from usmd.core.region import NO_MAX, User, limit_or_none
from usmd.server.metric_families import in_bytes
from usmd.server.process_metrics import REST

PROCESSES_A_STEP: Final = 1024
_LABELS: Final = ("uid",)
_AMOUNTS: Final = (
    ("usmd_user_resident_bytes", "Memory of a user with limits."),
    ("usmd_user_stored_bytes", "Pages of a user with limits that count against its swap_max."),
    ("usmd_user_sessions", "Sessions of a user with limits."),
    ("usmd_user_regions", "Regions of a user with limits."),
    ("usmd_user_hint_ranges", "Ranges with a hint of a user with limits."),
    ("usmd_user_waiting_pages", "Pages that faults of a user with limits wait for."),
)
_LIMITS: Final = (
    ("usmd_user_memory_max_bytes", "Most memory of a user, if it has a limit."),
    ("usmd_user_memory_min_bytes", "Memory that is guaranteed to a user, if any is."),
    ("usmd_user_swap_max_bytes", "Most swap of a user, if it has a limit."),
    ("usmd_user_memory_weight", "Share of memory of a user under pressure, if it has one."),
    ("usmd_user_max_sessions", "Most sessions of a user, if it has a limit."),
    ("usmd_user_max_regions", "Most regions of a user, if it has a limit."),
    ("usmd_user_max_hint_ranges", "Most ranges of a user with a hint, if it has a limit."),
    ("usmd_user_max_faults", "Most pages that faults of a user wait for at a time, if it has a limit."),
)


def user_metrics(users: Sequence[User], page_size: int, most: int) -> Iterator[Metric | None]:
    """Families for `most` users and the rest; None after a step."""
    families = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in _AMOUNTS]
    limits = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in _LIMITS]
    refused = CounterMetricFamily(
        "usmd_user_refused_faults", "Faults that failed because of the limits of a user.", labels=_LABELS
    )
    found: list[tuple[tuple[int, ...], User]] = []
    counted = 0
    for user in users:
        found.append((_amounts(user, page_size), user))
        counted += 1 + len(user.processes)
        if counted >= PROCESSES_A_STEP:
            counted = 0
            yield None
    found.sort(key=lambda each: (each[0][0], each[1].uid), reverse=True)
    for amounts, user in found[:most]:
        label = [str(user.uid)]
        for family, value in zip(families, amounts, strict=True):
            family.add_metric(label, value)
        for family, limit in zip(limits, _limits(user, page_size), strict=True):
            if limit is not None:
                family.add_metric(label, limit)
        refused.add_metric(label, user.refusals)
    others = found[most:]
    if others:
        for family, values in zip(families, zip(*(amounts for amounts, _ in others), strict=True), strict=True):
            family.add_metric([REST], sum(values))
        refused.add_metric([REST], sum(user.refusals for _, user in others))
    yield from families
    yield from limits
    yield refused


def _amounts(user: User, page_size: int) -> tuple[int, ...]:
    """Values of a user in the order of `_AMOUNTS`."""
    return (
        user.resident * page_size,
        user.stored * page_size,
        len(user.processes),
        user.regions,
        user.hint_ranges,
        user.missing,
    )


def _limits(user: User, page_size: int) -> tuple[int | None, ...]:
    """The limits of a user, in the order of `_LIMITS`; None: it has none."""
    numbers = (user.max_sessions, user.max_regions, user.max_hint_ranges, user.max_faults)
    return (
        in_bytes(user.memory_max, page_size),
        in_bytes(user.memory_min or NO_MAX, page_size),
        in_bytes(user.swap_max, page_size),
        user.weight or None,
        *map(limit_or_none, numbers),
    )
