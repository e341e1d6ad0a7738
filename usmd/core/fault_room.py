"""Tells the processes of a user that they may have more faults.

A user may have very many processes, so an event tells a few of them. The others follow in parts while there is room;
without room they are told when faults fit again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from usmd.core.work import PAGES_AN_EVENT, Kind, Work, WorkQueue

if TYPE_CHECKING:
    from usmd.core.pages_left import Steps
    from usmd.core.region import Process, User

AT_ONCE: Final = 16
"""Processes that an event tells. The shell looks for faults of each, which takes longer than a page of other work."""


class FaultRoom:
    """`tell`: queues the command that tells one process."""

    def __init__(self, work: WorkQueue, tell: Callable[[Process], None]) -> None:
        self._work = work
        self._tell = tell

    def fits(self, user: User) -> None:
        """The faults of a user, which were as many as are allowed, are fewer.

        Of the processes that an event tells, those with the fewest go first, and those with equally many by turns.
        """
        user.told += 1
        under_way = user.untold > 0
        user.untold = len(user.processes)
        self._tell_some(user)
        if user.untold and not under_way:
            self._work.add(Work(Kind.TELL, steps=self._tell_others(user)))

    def _tell_some(self, user: User) -> None:
        count = len(user.processes)
        some = min(AT_ONCE, count)
        first = user.next_told if count > some else 0
        turns = [user.processes[(first + (index + user.told) % some) % count] for index in range(some)]
        turns.sort(key=_missing)
        for process in turns:
            if process.ended is None:
                self._tell(process)
        user.next_told = first + some
        user.untold = max(user.untold - some, 0)

    def _tell_others(self, user: User) -> Steps:
        while user.untold:
            for _ in range(PAGES_AN_EVENT):  # this event has told as many as it may
                yield True
            if user.missing < user.max_faults:
                self._tell_some(user)
            else:
                user.untold = 0


def _missing(process: Process) -> int:
    return process.missing
