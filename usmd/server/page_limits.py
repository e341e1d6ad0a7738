"""What a reading of the live page says of limits in numbers that processes have of their own, and of users."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

import msgspec

from usmd.core.quotas import quotas_of
from usmd.core.region import Process, User, limit_or_none
from usmd.core.settings import CoreSettings

USERS: Final = 20
"""Users of a reading, those with most memory."""
PROCESSES_A_STEP: Final = 1024


class Limit(msgspec.Struct):
    """A limit, and how much is used of it. `name`: `regions`, `hint_ranges`, `faults`, or `kept`, which is in pages."""

    name: str
    used: int
    most: int


class UserRow(msgspec.Struct):
    """A user with limits; None: without a bound. Pages, but for `sessions`, `weight` and `refused` (faults)."""

    uid: int
    sessions: int
    max_sessions: int | None
    resident: int
    memory_min: int
    memory_max: int | None
    stored: int
    swap_max: int | None
    weight: int | None
    refused: int
    limits: list[Limit]


def limits_of(process: Process, settings: CoreSettings) -> list[Limit]:
    """The limits that a process has of its own in numbers."""
    own = quotas_of(process, settings)
    return _set(
        ("regions", len(process.regions), own.max_regions),
        ("hint_ranges", process.hint_ranges, own.max_hint_ranges),
        ("faults", process.missing, own.max_faults),
        ("kept", process.unevictable + process.pinned, own.deny_budget),
    )


def user_rows(users: list[User]) -> Iterator[list[UserRow] | None]:
    """None after each step, and the rows in the end."""
    found: list[tuple[int, int, User]] = []
    counted = 0
    for user in users:
        found.append((user.resident, user.uid, user))
        counted += 1 + len(user.processes)
        if counted >= PROCESSES_A_STEP:
            counted = 0
            yield None
    rows = []
    for _, _, user in heapq.nlargest(USERS, found):
        rows.append(_row(user))
        yield None
    yield rows


def _row(user: User) -> UserRow:
    return UserRow(
        uid=user.uid,
        sessions=len(user.processes),
        max_sessions=limit_or_none(user.max_sessions),
        resident=user.resident,
        memory_min=user.memory_min,
        memory_max=limit_or_none(user.memory_max),
        stored=user.stored,
        swap_max=limit_or_none(user.swap_max),
        weight=user.weight or None,
        refused=user.refusals,
        limits=_set(
            ("regions", user.regions, limit_or_none(user.max_regions)),
            ("hint_ranges", user.hint_ranges, limit_or_none(user.max_hint_ranges)),
            ("faults", user.missing, limit_or_none(user.max_faults)),
        ),
    )


def _set(*limits: tuple[str, int, int | None]) -> list[Limit]:
    return [Limit(name, used, most) for name, used, most in limits if most is not None]
