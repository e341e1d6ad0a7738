"""What the policies of one process did wrong, and when one that another took the place of is tried again.

Errors count less as time passes, so that a policy which errs now and then for months is not replaced for it. A slow
call is no error. A policy that made too many errors comes back after a minute, and after twice as long each time that
it fails again; one that hung stays away until an operator sets it, because each try would hold up every client.
"""

from __future__ import annotations

from typing import Final

HALF_LIFE: Final = 600.0
"""Seconds after which an error counts half."""
FIRST_WAIT: Final = 60.0
"""Seconds until a policy comes back after it was replaced."""
LONGEST_WAIT: Final = 3600.0
"""The wait does not grow beyond this; a policy that was in force for so long begins with the first wait again."""


class Blame:
    """The record of one process, by kind of policy.

    `errors`: answers of the policy in force that were not used; `slow`: its calls that took too long. `misbehaving`:
    what it did, of the kinds whose policy is to be replaced. `wanted`: the specification that comes back, which the
    session began with or an operator set. `returns`: when, of the kinds for which another is in force meanwhile.
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
        """Whether the errors count more than `limit`, each half after HALF_LIFE; 0: never."""
        return 0 < limit < self._decayed(kind, now)

    def _decayed(self, kind: str, now: float) -> float:
        recent = self._recent[kind]
        age = now - self._counted[kind]
        return recent * 0.5 ** (age / HALF_LIFE) if age else recent

    def began(self, kind: str) -> None:
        """Another policy is in force: it has done nothing wrong yet."""
        self.errors[kind] = self.slow[kind] = 0
        self._recent[kind] = 0.0
        self.misbehaving.pop(kind, None)
        self.hung.discard(kind)

    def want(self, kind: str, specification: str) -> None:
        """An operator set a policy: no other comes back, and what it may do wrong is its first."""
        self.wanted[kind] = specification
        for record in (self.returns, self._waits, self._back):
            record.pop(kind, None)

    def replaced(self, kind: str, now: float) -> float | None:
        """Another policy takes the place of one that made too many errors or hung; call it before `began`.

        Returns the seconds after which the wanted one comes back; None if it does not.
        """
        if kind in self.returns:  # what fails is the stand-in
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
        """The wanted policy could not come back; returns the seconds until it is tried again."""
        return self._wait(kind, min(2 * self._waits[kind], LONGEST_WAIT), now)

    def came_back(self, kind: str, now: float) -> None:
        """The wanted policy is in force again."""
        self.returns.pop(kind, None)
        self._back[kind] = now

    def _wait(self, kind: str, wait: float, now: float) -> float:
        self._waits[kind] = wait
        self.returns[kind] = now + wait
        return wait
