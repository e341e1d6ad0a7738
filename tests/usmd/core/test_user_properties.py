"""Limits of users under any sequence of events: no sum exceeds them, nothing is lost, and neighbours pay for nothing.

The processes of a user have no more memory and swap than it may have in sum, but for the frames that are lent for pages
from swap, as for one process. A user with a guarantee loses no page within it but for its own sake. Where memory is not
short, a process without limits loses no page, whatever users at their limits do.
"""

from contextlib import suppress
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.support.core_machine import ALLOC, EVICT, INDEX, OOM, CoreMachine
from tests.support.examples import steps
from usmd.core import events
from usmd.core.region import NO_MAX
from usmd.errors import InvalidArgument, LimitExceeded

UIDS = st.sampled_from([1, 1, 1, 2, None])
MAXIMA = st.sampled_from([(None, None), (3, None), (4, None), (6, None), (3, 2), (4, 0), (5, 6), (8, 3)])
"""memory_max and swap_max of a user."""
OWN = st.sampled_from([(None, None), (None, None), (2, None), (3, 2)])
"""memory_max and swap_max of a process."""


class UserMachine(CoreMachine):
    """Up to four processes, of two users with limits and of none."""

    least_min = 0
    most: ClassVar = 4

    def make_shell(self, core):
        core.state.users.least = 1
        shell = super().make_shell(core)
        handle = shell._handle

        def watched(event):
            before = [(user, user.memory_min, self.stays(user)) for user in core.state.guarantees.users]
            acts = [self.acts(user.processes, event) for user, _, _ in before]
            quiet = self.unpaid(event)
            answer = handle(event)
            for (user, least, had), acted in zip(before, acts, strict=True):
                if not acted and not self.acts(user.processes, event) and user.memory_min == least:
                    assert self.stays(user) >= min(had, least), f"{event} took from user {user.uid}"
            for process, evictions in quiet:
                if not self.acts([process], event):
                    assert process.counters.evictions + process.leaving == evictions, f"{event}: {process.process_id}"
            return answer

        shell._handle = watched
        core.handle(events.SetUserLimits(1, None, 4, 3, min(self.least_min, core.state.guarantees.most)), 0.0)
        core.handle(events.SetUserLimits(2, 3, 5, None, 0), 0.0)
        return shell

    def unpaid(self, event):
        """Processes that may lose nothing now, and what they have lost; none where memory may be short."""
        del event
        return []

    def stays(self, user):
        return sum(each.resident - each.leaving for each in user.processes)

    def acts(self, processes, event):
        """Whether some of these may lose pages for their own sake now."""
        core = self.shell.core if hasattr(self, "shell") else None
        return core is None or any(
            process.ended is not None
            or getattr(event, "process_id", None) == process.process_id
            or any(piece.process is process for piece in core.state.work.queue)
            or core.waiting_of.get(process.process_id)
            or process.process_id in core.over_budget
            or process.lent > 0
            for process in processes
        )

    @precondition(lambda self: len(self.live()) < self.most)
    @rule(alloc=ALLOC, evict=EVICT, oom=OOM, device=st.sampled_from([None, "0"]), budgets=OWN, uid=UIDS)
    def attach(self, alloc, evict, oom, device, budgets=(None, None), uid=1):
        users = self.shell.core.state.users
        user = users.of.get(uid)
        try:
            process = self.shell.attach(
                "app", alloc, evict, oom, swap_device=device, memory_max=budgets[0], swap_max=budgets[1], uid=uid
            )
        except LimitExceeded:
            assert len(user.processes) >= min(user.max_sessions, user.memory_max)
            if not self.live():
                self.heard[self.shell.attach("app", alloc, evict, oom)] = 0
        else:
            self.heard[process] = 0

    @rule(
        uid=st.sampled_from([1, 1, 2]),
        sessions=st.sampled_from([None, None, 0, 1, 3]),
        maxima=MAXIMA,
        least=st.sampled_from([0, 0, 1, 3, 6]),
        weight=st.sampled_from([None, 50, 300]),
    )
    def limit_user(self, uid, sessions, maxima, least, weight):
        with suppress(InvalidArgument, LimitExceeded):
            self.shell.do(events.SetUserLimits(uid, sessions, *maxima, least, weight))

    @precondition(lambda self: self.live())
    @rule(pick=INDEX, budgets=OWN, kept=st.sampled_from([None, 0, 1]))
    def limit(self, pick, budgets, kept):
        process = self.live()[pick % len(self.live())]
        found, settings = self.shell.core.state.processes[process], self.shell.core.state.settings
        try:
            self.shell.do(events.SetLimits(process, *budgets, 0, 100, events.Quotas(deny_budget=kept)))
        except InvalidArgument:
            above = kept is not None and not found.pinned <= kept <= settings.deny_budget
            assert above or found.stored > budgets[1]

    @invariant()
    def all_is_well(self):
        state = self.shell.core.state
        for user in state.users.of.values():
            assert sum(each.memory_max for each in user.processes) <= user.memory_max or user.memory_max == NO_MAX
            assert user.resident <= user.memory_max + sum(each.lent for each in user.processes)
            granted = sum(each.swap_max for each in user.processes)
            assert granted <= user.swap_max + user.swap_excess or user.swap_max == NO_MAX
            assert user.stored <= user.swap_max + user.swap_excess
            assert user.missing >= sum(each.missing for each in user.processes)
            assert {each.process_id for each in user.processes} == {
                each.process_id for each in state.processes.values() if each.uid == user.uid
            }
        for process in state.processes.values():
            assert process.memory_max <= process.own_memory_max
            assert process.swap_max <= process.own_swap_max
            assert (process.user is None) == (process.uid not in state.users.of)
        super().all_is_well()


class RoomyMachine(UserMachine):
    """Memory for all that can be mapped, so that only limits of users make pages go."""

    @initialize(
        slots=st.sampled_from([(3, 2), (8, 4), (40, 40)]),
        policies=st.tuples(ALLOC, EVICT, OOM),
        pages_an_event=st.sampled_from([None, 1]),
    )
    def start(self, policies, **settings):
        self.begin(frames=48, marks=(0, 0), hold_budget=1, deny=(3, 6), max_fault_pages=6, **settings)
        self.attach(*policies, None)
        self.map(0, 9)
        self.churn(0, 0, 9)

    def unpaid(self, event):
        if not hasattr(self, "shell"):
            return []
        free = [each for each in self.shell.core.state.processes.values() if each.user is None]
        free = [each for each in free if each.memory_max == NO_MAX and not self.acts([each], event)]
        return [(each, each.counters.evictions + each.leaving) for each in free]


class GuardedMachine(UserMachine):
    """As the first, with a guarantee from the start."""

    least_min = 2


for machine in (UserMachine, RoomyMachine, GuardedMachine):
    machine.TestCase.settings = steps(12, 40)


class TestUsers(UserMachine.TestCase):
    """Run by pytest."""


class TestUsersWithRoom(RoomyMachine.TestCase):
    """Run by pytest."""


class TestUsersWithGuarantees(GuardedMachine.TestCase):
    """Run by pytest."""
