"""Begins and ends sessions and regions, and replaces policies."""

from __future__ import annotations

from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final

from usmd.core import commands, events, quotas
from usmd.core.background_reclaim import tell_swapped
from usmd.core.guard import NO_POLICY, GuardedPolicies
from usmd.core.region import MAX_ADDRESS, MAX_REGION_ID, PAGE_MASK, Process, Region
from usmd.core.work import Kind, Work
from usmd.errors import InvalidArgument, LimitExceeded, Unmapped, UsmdError
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.budget_queue import BudgetQueue
    from usmd.core.memory_queue import MemoryQueue
    from usmd.core.release import Release
    from usmd.core.sampler import Sampler
    from usmd.core.state import State

MAX_NAME = 64
KINDS: Final = ("alloc", "evict", "oom", "cond")
"""Kinds of policies: those of `CoreSettings.default_policies` in their order, and `cond`, which is optional."""


def check_name(name: str, what: str, *, may_be_empty: bool) -> None:
    """Raise InvalidArgument unless `name` has 1 (0 if it may be empty) to 64 printable characters."""
    if len(name) > MAX_NAME or not name.isprintable() or (not name and not may_be_empty):
        least = 0 if may_be_empty else 1
        raise InvalidArgument(f"{what} {name[:80]!r}; allowed are {least} to {MAX_NAME} printable characters")


def _caller(process: Process) -> dict[str, str]:
    """The process and the user of a session, if a ticket vouches for them."""
    return {name: str(value) for name, value in (("pid", process.pid), ("uid", process.uid)) if value is not None}


class Mapping:
    """Handles Attach, Detach, Map, Unmap and SetPolicy. A request that raises has changed nothing."""

    def __init__(
        self, state: State, memory_queue: MemoryQueue, budget_queue: BudgetQueue, release: Release, sampler: Sampler
    ) -> None:
        self._state = state
        self._memory_queue = memory_queue
        self._budget_queue = budget_queue
        self._release = release
        self._sampler = sampler

    def attach(self, event: events.Attach) -> None:
        """Begin a session.

        Raises UnknownPolicy, InvalidArgument, LimitExceeded (its guarantee, or its user's limits) or InvalidHint (no
        such swap device).
        """
        state = self._state
        check_name(event.name, "process name", may_be_empty=False)
        device = None if event.swap_device is None else state.swap.named(event.swap_device)
        state.budgets.check(event.memory_max, event.swap_max)
        state.guarantees.check(event.memory_min, event.memory_weight, event.memory_max)
        quotas.check(event.quotas, state.settings)
        state.users.check_room(event.uid)
        records = state.settings.eviction_records
        number = event.number
        if number < 1 or number in state.processes:
            number = next(each for each in count(state.next_process) if each not in state.processes)
        process = Process(number, event.name, event.pid, event.uid, device, records)
        specifications = {"alloc": event.alloc, "evict": event.evict, "oom": event.oom, "cond": event.cond}
        process.policies = GuardedPolicies(state, process, specifications)
        state.budgets.begin(process, event.memory_max, event.swap_max)
        state.guarantees.set(process, event.memory_min, event.memory_weight)
        quotas.give(process, event.quotas, state.settings)
        state.users.begin(process)
        if number != event.number:
            state.next_process = number + 1
        state.processes[number] = process
        state.attached += 1
        process.order = state.attached
        state.first.append(commands.Attached(process.process_id))
        state.notice(
            "process_attached",
            process.process_id,
            f"{event.name} attached as process {process.process_id}",
            {"name": event.name, **specifications, **_caller(process)},
        )

    def end(self, process: Process, reason: str, *, killed: bool) -> None:
        """End a session. Its regions are gone at once; their frames and slots become free in parts, see `Release`."""
        state = self._state
        del state.processes[process.process_id]
        process.policies.ended()
        self._sampler.forget(process)
        self._release.end(process, Unmapped(reason))
        self._memory_queue.unmapped(process)
        self._budget_queue.unmapped(process)
        state.budgets.end(process)
        state.guarantees.end(process)
        state.users.end(process)
        state.stalls.end(process.stall, state.now)
        state.ended_counters.add(process.counters)
        state.first.append(commands.Ended(process.process_id, reason, killed))
        state.notice(
            "process_killed" if killed else "process_detached",
            process.process_id,
            f"{process.name} (process {process.process_id}) {'lost its session' if killed else 'ended'}: {reason}",
            {"name": process.name, "reason": reason, **_caller(process)},
        )

    def map(self, event: events.Map) -> None:
        """Make a region; raises NotFound, InvalidArgument or LimitExceeded."""
        state = self._state
        settings = state.settings
        process = state.process(event.process_id)
        check_name(event.name, "region name", may_be_empty=True)
        room = settings.max_mapped - process.mapped
        if event.length < 1:
            raise InvalidArgument(f"a region of {event.length} bytes; allowed is 1 and more")
        pages = -(-event.length // settings.page_size)
        size = pages * settings.page_size
        if size > room or pages > PAGE_MASK or process.address + size + settings.page_size > MAX_ADDRESS:
            raise LimitExceeded(
                f"a region of {format_size(event.length)}; the process may map {format_size(room)} more "
                f"(memory.max_mapped is {format_size(settings.max_mapped)})"
            )
        if (full := quotas.regions_words(process, settings)) is not None:
            raise LimitExceeded(full)
        if state.next_region > MAX_REGION_ID:
            raise LimitExceeded("region numbers are used up; restart usmd")
        number = event.number
        if not 1 <= number <= MAX_REGION_ID or number in state.regions or number in state.dying:
            number = state.next_region
            state.next_region += 1
        region = Region(number, process, process.address, event.length, settings.page_size, event.name)
        state.regions[region.region_id] = process.regions[region.region_id] = region
        process.mapped += size
        process.address += size + settings.page_size  # with a guard page, so no region has the address past the end
        state.first.append(
            commands.Mapped(region.region_id, region.address, region.length, region.page_count, region.name)
        )

    def unmap(self, event: events.Unmap) -> None:
        """End a region; raises NotFound."""
        region = self._state.region(event.process_id, event.region_id)
        self._release.unmap(region, Unmapped(f"region {region.region_id} was unmapped"))
        self._memory_queue.unmapped(region.process)
        self._budget_queue.unmapped(region.process)

    def set_policy(self, event: events.SetPolicy) -> None:
        """Replace a policy; raises NotFound, UnknownPolicy or InvalidArgument."""
        process = self._state.process(event.process_id)
        if event.kind not in KINDS:
            raise InvalidArgument(f"policy kind {event.kind!r}; allowed are {', '.join(KINDS)}")
        before = process.policies.specifications[event.kind]
        self._replace(process, event.kind, event.specification)
        process.policies.blame.want(event.kind, event.specification)
        self._state.notice(
            "policy_set",
            process.process_id,
            f"{process.name} (process {process.process_id}): {event.kind} policy {event.specification} took the place "
            f"of {before}",
            {"policy_kind": event.kind, "policy": event.specification, "before": before},
        )

    def replace_misbehaving(self) -> None:
        """Replace policies that made too many errors, or hung, by the default."""
        state = self._state
        processes, state.misbehaving = state.misbehaving, []
        for process in processes:
            if state.processes.get(process.process_id) is not process:
                continue  # its session has ended, or was refused
            policies = process.policies
            for kind, default in zip(KINDS, (*state.settings.default_policies, NO_POLICY), strict=True):
                if kind not in policies.blame.misbehaving:
                    continue
                before, errors = policies.specifications[kind], policies.blame.errors[kind]
                what = policies.blame.misbehaving[kind]
                wait = policies.blame.replaced(kind, state.now)
                after = default
                try:
                    if before == default:
                        raise InvalidArgument(f"{default} itself misbehaved")
                    self._replace(process, kind, default)
                except UsmdError as error:
                    after = f"the core's own default ({error})"
                    policies.give_up_on(kind)
                fields = {"policy_kind": kind, "policy": before, "errors": str(errors), "did": what}
                fields["replaced_by"] = after
                then = ""
                if wait is not None:
                    state.policy_returns = min(state.policy_returns, state.now + wait)
                    fields["returns_in"] = f"{wait:.0f}"
                    then = f"; {policies.blame.wanted[kind]} comes back in {wait:.0f} s"
                state.notice(
                    "policy_replaced",
                    process.process_id,
                    f"{process.name} (process {process.process_id}): {kind} policy {before} {what}; "
                    f"{after} took its place{then}",
                    fields,
                )

    def bring_back_policies(self) -> None:
        """Put the policies whose wait is over back in the place of their stand-ins."""
        state = self._state
        state.policy_returns = inf
        for process in state.processes.values():
            returns = process.policies.blame.returns
            for kind in [kind for kind, when in returns.items() if when <= state.now]:
                self._bring_back(process, kind)
            state.policy_returns = min(state.policy_returns, min(returns.values(), default=inf))

    def _bring_back(self, process: Process, kind: str) -> None:
        state, blame = self._state, process.policies.blame
        before, wanted = process.policies.specifications[kind], blame.wanted[kind]
        who = f"{process.name} (process {process.process_id}): {kind} policy {wanted}"
        fields = {"policy_kind": kind, "policy": wanted}
        try:
            self._replace(process, kind, wanted)
        except UsmdError as error:
            wait = blame.postponed(kind, state.now)
            state.notice(
                "policy_error",
                process.process_id,
                f"{who} cannot come back: {error}; tried again in {wait:.0f} s",
                fields,
            )
            return
        blame.came_back(kind, state.now)
        message = f"{who} came back in the place of {before}"
        state.notice("policy_restored", process.process_id, message, {**fields, "before": before})

    def _replace(self, process: Process, kind: str, specification: str) -> None:
        hand_over = process.policies.replace(kind, specification)
        if hand_over is not None:
            self._state.work.add(Work(Kind.HAND_OVER, process, steps=hand_over))
        if kind == "cond" and process.policies.conditional:
            self._state.work.add(Work(Kind.TELL_SWAPPED, process, steps=tell_swapped(self._state, process)))
