"""Metrics of users with limits: a line for each of those with most memory, and one for all others."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from usmd.core.region import NO_MAX, User
from usmd.server.process_metrics import REST

PROCESSES_A_STEP: Final = 2048
_LABELS: Final = ("uid",)
_FAMILIES: Final = (
    ("usmd_user_sessions", "Sessions of a user with limits."),
    ("usmd_user_resident_bytes", "Memory of a user with limits."),
    ("usmd_user_stored_bytes", "Pages of a user with limits that count against its swap_max."),
)


def user_metrics(users: Sequence[User], page_size: int, most: int) -> Iterator[Metric | None]:
    """Families for `most` users and the rest; None after a step."""
    families = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in _FAMILIES]
    limits = [
        GaugeMetricFamily(f"usmd_user_{name}_bytes", text, labels=_LABELS)
        for name, text in (
            ("memory_max", "Most memory of a user, if it has a limit."),
            ("memory_min", "Memory that is guaranteed to a user, if any is."),
            ("swap_max", "Most swap of a user, if it has a limit."),
        )
    ]
    refused = CounterMetricFamily(
        "usmd_user_refused_faults", "Faults that failed because of the limits of a user.", labels=_LABELS
    )
    found: list[tuple[int, int, int, User]] = []
    counted = 0
    for user in users:
        found.append((len(user.processes), user.resident, user.stored, user))
        counted += 1 + len(user.processes)
        if counted >= PROCESSES_A_STEP:
            counted = 0
            yield None
    largest = heapq.nlargest(most, found, key=lambda each: (each[1], each[3].uid))
    shown = {each[3].uid for each in largest}
    for sessions, resident, stored, user in largest:
        label = [str(user.uid)]
        for family, value in zip(families, (sessions, resident * page_size, stored * page_size), strict=True):
            family.add_metric(label, value)
        bounds = (user.memory_max, user.memory_min or NO_MAX, user.swap_max)
        for family, pages in zip(limits, bounds, strict=True):
            if pages != NO_MAX:
                family.add_metric(label, pages * page_size)
        refused.add_metric(label, user.refusals)
    others = [each for each in found if each[3].uid not in shown]
    if others:
        sessions = sum(each[0] for each in others)
        resident, stored = sum(each[1] for each in others), sum(each[2] for each in others)
        for family, value in zip(families, (sessions, resident * page_size, stored * page_size), strict=True):
            family.add_metric([REST], value)
        refused.add_metric([REST], sum(each[3].refusals for each in others))
    yield from families
    yield from limits
    yield refused
