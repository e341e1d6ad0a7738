"""Limits of a user, for all its processes together: sessions, memory, swap, a guarantee and a weight, and numbers.

A process of such a user has grants of memory and swap. They are its `memory_max` and `swap_max`, so a fault looks at
what it looks at without limits of users. The grants of a user's processes are never more in sum than its limits. A
process that has used up a grant gets more: what no process has, or what others of the user have and do not use. If all
is used, the process of the user furthest above its share gives pages, and its grant follows them, see `BudgetQueue`.
What is in swap has nowhere to go, so a grant of swap that is used stays where it is.

A user has few processes, and its grants move rarely: to each process that wants more goes an equal part of the rest. So
they are added up when they move, and no count of them can be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from typing import TYPE_CHECKING, Final

from usmd.core.budgets import Budgets, Grants
from usmd.core.level import level
from usmd.core.region import DEFAULT_WEIGHT, NO_MAX, User
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.events import SetUserLimits
    from usmd.core.guarantees import Guarantees
    from usmd.core.region import Process
    from usmd.core.settings import CoreSettings

LEAST: Final = 32
"""Pages of memory that a process of a user may have at least: one instruction may need several pages at once."""
MAX_USERS: Final = 1024
"""Most users with limits."""


class Users(Grants):
    """The users with limits, and the grants of their processes.

    `waiting_of`: number of a process → its pages that wait for a frame. What they take of its grant is in use.
    """

    __slots__ = ("_guarantees", "_settings", "_waiting_of", "budgets", "least", "of")

    def __init__(self, guarantees: Guarantees, settings: CoreSettings, waiting_of: Mapping[int, Sized]) -> None:
        self.budgets = Budgets(self)
        """The budgets of all processes, those without a user among them."""
        self._guarantees = guarantees
        self._settings = settings
        self._waiting_of = waiting_of
        self.of: dict[int, User] = {}
        """uid → the user, if it has limits."""
        self.least = LEAST

    def check(self, event: SetUserLimits, processes: Collection[Process], more: int = 0) -> None:
        """Raise InvalidArgument or LimitExceeded for limits that a user cannot have.

        `processes`: all there are. `more`: pages that other guarantees will have by then in addition.
        """
        user = self.of.get(event.uid)
        count = sum(each.uid == event.uid for each in processes)
        least, most = self.least * max(count, 1), event.memory_max
        if event.max_sessions is not None and event.max_sessions < 0:
            raise InvalidArgument(f"max_sessions of {event.max_sessions}; allowed is 0 and more")
        if most is not None and most < least:
            raise InvalidArgument(
                f"memory_max of {most} pages for user {event.uid}; allowed is {least} and more, which is {self.least} "
                f"for each of its {count} sessions"
                if count > 1
                else f"memory_max of {most} pages for user {event.uid}; allowed is {least} and more"
            )
        for name, number, lowest in (
            ("max_regions", event.max_regions, 1),
            ("max_hint_ranges", event.max_hint_ranges, 0),
            ("max_faults", event.max_faults, 1),
        ):
            if number is not None and number < lowest:
                raise InvalidArgument(f"{name} of {number} for user {event.uid}; allowed is {lowest} and more")
        self.budgets.check(most, event.swap_max)
        before = 0 if user is None else user.memory_min
        weight = DEFAULT_WEIGHT if event.memory_weight is None else event.memory_weight
        self._guarantees.check(event.memory_min, weight, most, before - more)
        if user is None and not event.empty and len(self.of) >= MAX_USERS:
            raise LimitExceeded(f"{len(self.of)} users have limits; allowed are {MAX_USERS}")

    def set(self, event: SetUserLimits, processes: Collection[Process]) -> list[Process]:
        """Give a user limits, which `check` accepted; returns the processes that have to give pages now."""
        user = self.of.get(event.uid)
        if user is None:
            user = self.of[event.uid] = User(event.uid)
            user.processes = [each for each in processes if each.uid == event.uid]
            for process in user.processes:
                process.user = user
                user.missing += process.missing
        user.max_sessions = NO_MAX if event.max_sessions is None else event.max_sessions
        user.weight = event.memory_weight or 0
        user.max_regions = NO_MAX if event.max_regions is None else event.max_regions
        user.max_hint_ranges = NO_MAX if event.max_hint_ranges is None else event.max_hint_ranges
        user.max_faults = NO_MAX if event.max_faults is None else event.max_faults
        for process in user.processes:
            process.limit_faults(self._settings.max_faults)
        self._guarantees.set_user(user, event.memory_min)
        self._set_swap(user, NO_MAX if event.swap_max is None else event.swap_max)
        shrinking = self._set_memory(user, NO_MAX if event.memory_max is None else event.memory_max)
        if event.empty:
            del self.of[event.uid]
            for process in user.processes:
                process.user = None
        return shrinking

    def _set_memory(self, user: User, most: int) -> list[Process]:
        if most == user.memory_max:
            return []
        user.memory_max = most
        if most == NO_MAX:
            for process in user.processes:
                self.budgets.change_memory_max(process, process.own_memory_max)
            return []
        used = [(max(min(each.resident, each.memory_max), 1), each) for each in user.processes]
        above = [(max(pages - self.least, 0), each) for pages, each in used]
        gives = {each.process_id: pages for each, pages in level(above, sum([pages for pages, _ in used]) - most)}
        for pages, process in used:
            self.budgets.change_memory_max(process, pages - gives.get(process.process_id, 0))
        return [process for process in user.processes if process.lent]

    def _set_swap(self, user: User, most: int) -> None:
        if most == user.swap_max:
            return
        user.swap_max = most
        for process in user.processes:
            self.budgets.change_swap_max(process, process.own_swap_max if most == NO_MAX else process.stored)
        self._count_swap(user)

    def _count_swap(self, user: User) -> None:
        granted = 0 if user.swap_max == NO_MAX else sum([each.swap_max for each in user.processes])
        user.swap_excess = max(granted - user.swap_max, 0)
        user.swap_spent = False

    def check_room(self, uid: int | None) -> None:
        """Raise LimitExceeded if a user may not begin a session."""
        user = None if uid is None else self.of.get(uid)
        if user is None:
            return
        count = len(user.processes)
        if count >= user.max_sessions:
            raise LimitExceeded(f"user {uid} has {count} sessions; its max_sessions is {user.max_sessions}")
        if (count + 1) * self.least > user.memory_max:
            size = format_size(user.memory_max * self._settings.page_size)
            raise LimitExceeded(
                f"user {uid} has {count} sessions; its memory_max of {user.memory_max} pages ({size}) allows no more, "
                f"because each session needs {self.least}"
            )

    def begin(self, process: Process) -> None:
        """A process begins, for which `check_room` found room."""
        user = None if process.uid is None else self.of.get(process.uid)
        if user is None:
            return
        process.user = user
        user.processes.append(process)
        process.limit_faults(self._settings.max_faults)
        if user.memory_max != NO_MAX:
            self.budgets.change_memory_max(process, 0)
            self.grow(process, 1)
        if user.swap_max != NO_MAX:
            self.budgets.change_swap_max(process, 0)
            self.more_swap(process)
        self._guarantees.joined(process)

    def end(self, process: Process) -> None:
        """A process has ended, and its grants are its user's again."""
        if process.user is not None:
            process.user.processes.remove(process)
            process.user.untold = len(process.user.processes) if process.user.untold else 0
            self._count_swap(process.user)

    def limits_memory(self, process: Process) -> bool:
        """Whether the user of a process bounds its memory, and not a limit of its own."""
        user = process.user
        return user is not None and user.memory_max != NO_MAX and process.memory_max < process.own_memory_max

    def grow(self, process: Process, wanted: int) -> bool:
        """Grant a process `wanted` pages of memory, or what there is, and an equal part if that is more.

        False if its user has nothing to grant.
        """
        user = process.user
        if user is None or not self.limits_memory(process):
            return False
        rest = user.memory_max
        unused: list[tuple[int, Process]] = []
        for each in user.processes:
            rest -= max(each.memory_max, each.resident)
            if each is not process and (spare := self._unused(each)) > 0:
                unused.append((spare, each))
        pool = rest + sum([spare for spare, _ in unused])
        gets = min(max(wanted, pool // len(user.processes)), pool, process.own_memory_max - process.memory_max)
        if gets <= 0:
            return False
        short = gets - rest
        if short > 0:
            unused.sort(key=_spare, reverse=True)
            for spare, each in unused:
                part = min(spare, short)
                self.budgets.change_memory_max(each, each.memory_max - part)
                short -= part
                if short <= 0:
                    break
        self.budgets.change_memory_max(process, process.memory_max + gets)
        return True

    def _unused(self, process: Process) -> int:
        """Pages of its grant that a process does not use, beyond what each may have."""
        if process.lent:
            return 0
        waiting = self._waiting_of.get(process.process_id)
        used = process.resident + (0 if waiting is None else len(waiting)) + self.budgets.is_full(process)
        return process.memory_max - max(used, self.least)

    def givers(self, process: Process, wanted: int) -> list[tuple[Process, int]]:
        """Which processes of its user give pages to a process, and how many; the furthest above its share first."""
        standings: list[tuple[int, Process]] = []
        for each in [] if process.user is None else process.user.processes:
            kept = max(self.least, each.own_memory_min, each.unevictable + each.pinned)
            above = each.resident - each.leaving - kept
            if above > 0 and not self.budgets.gives_nothing(each):
                standings.append((above, each))
        return level(standings, wanted)

    def more_swap(self, process: Process) -> int:
        """Grant a process that has used up its grant more swap, if there is some; returns the pages that it may store.

        It gets an equal part of what no process uses.
        """
        user = process.user
        if user is None or user.swap_max == NO_MAX or user.swap_spent:
            return process.swap_max - process.stored
        pool = user.swap_max - sum([each.swap_max if each is process else each.stored for each in user.processes])
        user.swap_spent = pool <= 0
        gets = min(max(pool // len(user.processes), 1), pool, process.own_swap_max - process.swap_max)
        if gets > 0:
            short = gets - (user.swap_max - sum([each.swap_max for each in user.processes]))
            for each in user.processes:
                if short <= 0:
                    break
                if each is not process:
                    part = min(each.swap_max - each.stored, short)
                    self.budgets.change_swap_max(each, each.swap_max - part)
                    short -= part
            self.budgets.change_swap_max(process, process.swap_max + gets)
        return process.swap_max - process.stored

    def stored_less(self, process: Process, pages: int) -> None:
        """A process has so many pages fewer in swap: those above a lower `swap_max` are not granted again."""
        user = process.user
        if user is None or user.swap_max == NO_MAX:
            return
        user.swap_spent = False
        if user.swap_excess:
            excess = min(pages, user.swap_excess)
            user.swap_excess -= excess
            process.swap_max -= excess


def _spare(of: tuple[int, Process]) -> int:
    return of[0]
