"""Limits of users: by the configuration, whose shares become pages, and those in force."""

from __future__ import annotations

from collections.abc import Sequence

from usmd.core.events import SetUserLimits
from usmd.core.region import limit_or_none
from usmd.core.state import State
from usmd.errors import ConfigError, UsmdError
from usmd.policy_rules import UserRule


def limits_by(rule: UserRule, state: State) -> SetUserLimits:
    """The limits that a rule gives its user. Raises ConfigError."""
    frames, size = state.settings.frames, state.settings.page_size
    return SetUserLimits(
        rule.uid,
        rule.max_sessions,
        rule.names.memory_frames(frames, size),
        rule.names.swap_pages(state.swap.slots, size),
        rule.names.guaranteed_frames(frames, size),
        rule.memory_weight,
        rule.max_regions,
        rule.max_hint_ranges,
        rule.max_faults,
    )


def limits_of_user(uid: int, state: State) -> SetUserLimits:
    """The event that would give a user the limits that it has."""
    user = state.users.of.get(uid)
    if user is None:
        return SetUserLimits(uid)
    return SetUserLimits(
        uid,
        limit_or_none(user.max_sessions),
        limit_or_none(user.memory_max),
        limit_or_none(user.swap_max),
        user.memory_min,
        user.weight or None,
        limit_or_none(user.max_regions),
        limit_or_none(user.max_hint_ranges),
        limit_or_none(user.max_faults),
    )


def changes(before: Sequence[UserRule], after: Sequence[UserRule], state: State) -> list[SetUserLimits]:
    """What makes of the limits by some rules those by others; limits of a user whose rule stays are not touched.

    Those that take something away come first, so that guarantees which fit together at the end fit at all times.
    """
    stays = set(before) & set(after)
    gone = {rule.uid for rule in before} - {rule.uid for rule in after}
    changed = [limits_by(rule, state) for rule in after if rule not in stays]
    return [SetUserLimits(uid) for uid in sorted(gone)] + sorted(changed, key=lambda each: _grows(each, state))


def _grows(limits: SetUserLimits, state: State) -> int:
    user = state.users.of.get(limits.uid)
    return limits.memory_min - (0 if user is None else user.memory_min)


def check(limits: Sequence[SetUserLimits], state: State) -> None:
    """Raise ConfigError for limits that cannot be set now, beside those of processes and of other users."""
    total = 0
    for each in limits:
        try:
            state.users.check(each, state.processes.values(), total)
        except UsmdError as error:
            raise ConfigError(f"policy.users: user {each.uid}: {error}", "policy.users") from error
        total += _grows(each, state)
