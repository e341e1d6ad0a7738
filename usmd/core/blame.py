"""Counts the errors of one process's policies, and decides when a replaced policy is tried again.

Errors count less as time passes, so a policy that errs now and then for months is not replaced. A slow call is not an
error. A policy that made too many errors returns after a minute, and after twice as long each time that it fails again.
A policy that hung stays out until an operator sets it, because each try would hold up every client.
"""

from __future__ import annotations

from typing import Final

HALF_LIFE: Final = 600.0
"""Seconds after which an error counts half."""
FIRST_WAIT: Final = 60.0
"""Seconds until a replaced policy returns for the first time."""
LONGEST_WAIT: Final = 3600.0
"""Longest wait. After as long in force, a policy begins with the first wait again."""


class Blame:
    """The record of one process, by kind of policy.

    `errors`: answers of the policy in force that were not used. `slow`: its calls that took too long. `misbehaving`:
    for each kind whose policy is to be replaced, what that policy did. `hung`: kinds whose policy hung. `wanted`: the
    specification that the session began with or an operator set. `returns`: for each kind with a stand-in, the time at
    which the wanted policy returns.
    """

    __slots__ = ("_back", "_counted", "_recent", "_waits", "errors", "hung", "misbehaving", "returns", "slow", "wanted")

    def __init__(self, specifications: dict[str, str]) -> None:
        self.wanted = dict(specifications)
        self.errors = dict.fromkeys(specifications, 0)
        self.slow = dict.fromkeys(specifications, 0)
        self.misbehaving: dict[str, str] = {}
        self.hung: set[str] = set()
        self.returns: dict[str, float] = {}
        self._recent = dict.fromkeys(specifications, 0.0)
        self._counted = dict.fromkeys(specifications, 0.0)
        self._waits: dict[str, float] = {}
        self._back: dict[str, float] = {}

    def count_error(self, kind: str, now: float) -> None:
        """Count an error at time `now` (seconds, never falling)."""
        self.errors[kind] += 1
        self._recent[kind] = self._decayed(kind, now) + 1
        self._counted[kind] = now

    def errs_too_often(self, kind: str, limit: int, now: float) -> bool:
        """Whether the errors, each counted half after HALF_LIFE, exceed `limit` (0: never)."""
        return 0 < limit < self._decayed(kind, now)

    def _decayed(self, kind: str, now: float) -> float:
        recent = self._recent[kind]
        age = now - self._counted[kind]
        return recent * 0.5 ** (age / HALF_LIFE) if age else recent

    def began(self, kind: str) -> None:
        """Clear the record of a kind: another policy is in force."""
        self.errors[kind] = self.slow[kind] = 0
        self._recent[kind] = 0.0
        self.misbehaving.pop(kind, None)
        self.hung.discard(kind)

    def want(self, kind: str, specification: str) -> None:
        """An operator set a policy: no other one returns, and the waits begin again with the first."""
        self.wanted[kind] = specification
        for record in (self.returns, self._waits, self._back):
            record.pop(kind, None)

    def replaced(self, kind: str, now: float) -> float | None:
        """A policy that made too many errors or hung is replaced. Call this before `began`.

        Returns the seconds until the wanted policy returns, or None if it does not.
        """
        if kind in self.returns:  # the stand-in failed
            return max(0.0, self.returns[kind] - now)
        if kind in self.hung:
            return None
        wait = self._waits.get(kind)
        if wait is None or now - self._back.get(kind, now) >= LONGEST_WAIT:
            wait = FIRST_WAIT
        else:
            wait = min(2 * wait, LONGEST_WAIT)
        return self._wait(kind, wait, now)

    def postponed(self, kind: str, now: float) -> float:
        """The wanted policy could not return; returns the seconds until the next try."""
        return self._wait(kind, min(2 * self._waits[kind], LONGEST_WAIT), now)

    def came_back(self, kind: str, now: float) -> None:
        """The wanted policy is in force again."""
        self.returns.pop(kind, None)
        self._back[kind] = now

    def _wait(self, kind: str, wait: float, now: float) -> float:
        self._waits[kind] = wait
        self.returns[kind] = now + wait
        return wait
