"""Sessions, regions and hints: what exists, and what is said of it. Covers no fault."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from usmd.core import commands, events
from usmd.core.chores import MAX_CHORES
from usmd.core.frames import DENIED, EVICTING, PRESENT
from usmd.core.guard import NO_POLICY, GuardedPolicies
from usmd.core.hints import Hint
from usmd.core.region import MAX_ADDRESS, MAX_REGION_ID, PAGE_BITS, PAGE_MASK, Process, Region
from usmd.core.turns import tell_swapped
from usmd.errors import InvalidArgument, InvalidHint, LimitExceeded, OutOfRange, Unmapped, UsmdError
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.chores import Chore
    from usmd.core.memory_queue import MemoryQueue
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.reclaim import Reclaim
    from usmd.core.state import State

MAX_NAME = 64
KINDS: Final = ("alloc", "evict", "oom", "cond")
"""Kinds of policies, in the order of `CoreSettings.default_policies`, and the one that a process need not have."""


def check_name(name: str, what: str, *, may_be_empty: bool) -> None:
    """Raise InvalidArgument unless `name` has at most 64 printable characters (and at least one, if it must)."""
    if len(name) > MAX_NAME or not name.isprintable() or (not name and not may_be_empty):
        least = 0 if may_be_empty else 1
        raise InvalidArgument(f"{what} {name[:80]!r}; allowed are {least} to {MAX_NAME} printable characters")


class Mapping:
    """Handles Attach, Detach, Map, Unmap and SetHint. A request that raises has changed nothing."""

    def __init__(
        self, state: State, life: PageLife, placement: Placement, memory_queue: MemoryQueue, reclaim: Reclaim
    ) -> None:
        self._state = state
        self._life = life
        self._placement = placement
        self._memory_queue = memory_queue
        self._reclaim = reclaim

    def attach(self, event: events.Attach) -> None:
        """Begin a session; raises UnknownPolicy or InvalidArgument."""
        state = self._state
        check_name(event.name, "process name", may_be_empty=False)
        device = None if event.swap_device is None else self._device(event.swap_device)
        records = state.settings.eviction_records
        process = Process(state.next_process, event.name, event.pid, event.uid, device, records)
        specifications = {"alloc": event.alloc, "evict": event.evict, "oom": event.oom, "cond": event.cond}
        process.policies = GuardedPolicies(state, process, specifications)
        state.next_process += 1
        state.processes[process.process_id] = process
        state.first.append(commands.Attached(process.process_id))
        state.notice(
            "process_attached",
            process.process_id,
            f"{event.name} attached as process {process.process_id}",
            {"name": event.name, **specifications},
        )

    def end(self, process: Process, reason: str, *, killed: bool) -> None:
        """End a session: its regions go, its frames and slots are free (those with I/O in flight when that ends)."""
        state = self._state
        del state.processes[process.process_id]
        regions = list(process.regions.values())
        for region in regions:
            self._discard(region, Unmapped(reason))
        process.policies.ended()
        self._memory_queue.unmapped(regions)
        state.ended_counters.add(process.counters)
        state.first.append(commands.Ended(process.process_id, reason, killed))
        state.notice(
            "process_killed" if killed else "process_detached",
            process.process_id,
            f"{process.name} (process {process.process_id}) {'lost its session' if killed else 'ended'}: {reason}",
            {"name": process.name, "reason": reason},
        )

    def map(self, event: events.Map) -> None:
        """Make a region; raises InvalidArgument or LimitExceeded."""
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
        if len(process.regions) >= settings.max_regions:
            raise LimitExceeded(f"the process has {len(process.regions)} regions; memory.max_regions allows no more")
        if state.next_region > MAX_REGION_ID:
            raise LimitExceeded("region numbers are used up; restart usmd")
        number = event.number
        if not 1 <= number <= MAX_REGION_ID or number in state.regions or number in state.dying:
            number = state.next_region
            state.next_region += 1
        region = Region(number, process, process.address, event.length, settings.page_size, event.name)
        state.regions[region.region_id] = process.regions[region.region_id] = region
        process.mapped += size
        process.address += size + settings.page_size  # a guard page, so that one past the end is nobody's address
        state.first.append(
            commands.Mapped(region.region_id, region.address, region.length, region.page_count, region.name)
        )

    def unmap(self, event: events.Unmap) -> None:
        """Give a region back; raises NotFound."""
        region = self._state.region(event.process_id, event.region_id)
        self._discard(region, Unmapped(f"region {region.region_id} was unmapped"))
        self._memory_queue.unmapped([region])

    def _discard(self, region: Region, reason: UsmdError) -> None:
        state = self._state
        del state.regions[region.region_id], region.process.regions[region.region_id]
        state.first.append(commands.RegionGone(region.region_id, region.process.process_id not in state.processes))
        # Who would have gone on by what this event did to a page before hears that there is none.
        served = [*state.zero_pages, *state.restores, *state.wakes]
        state.poisons.update((key, "") for key in served if key >> PAGE_BITS == region.region_id)
        region.process.mapped -= region.page_count * state.settings.page_size
        for page, pfn in region.table.resident():
            self._life.discard(region, page, pfn, reason)
        if region.swapped:
            state.dying[region.region_id] = region
            state.chores.add_first(self._life.discard_swapped(region))

    def pin(self, event: events.Pin) -> None:
        """Keep a range in memory if all of it is there, else tell what is not.

        Raises LimitExceeded beyond the budget, whether pages are there or not: a refused pin brings nothing in.
        """
        region, pages = self._range(event)
        self._check_pin(region, event.first_page, max(event.planned, event.page_count))
        frames = self._state.frames
        found = [region.table[page] - 1 for page in pages]
        absent = [
            page
            for page, pfn in zip(pages, found, strict=True)
            if pfn < 0 or frames.state[pfn] not in (PRESENT, EVICTING)
        ]
        if not absent:
            for pfn in found:
                if frames.state[pfn] == EVICTING:
                    self._life.retake(pfn)
                self._life.lock(pfn)
        self._state.first.append(commands.Pinned(absent))

    def _check_pin(self, region: Region, first: int, count: int) -> None:
        """Raise LimitExceeded if the budget has no room for a pin of `count` pages, resident or not."""
        process, settings = region.process, self._state.settings
        room = max(self._life.kept_room(process), 0)
        # A large range is refused without a look at its pages.
        more, at_least = count - process.locked, "at least " if process.locked else ""
        if more <= room:
            keys = range(region.first_key + first, region.first_key + first + count)
            more, at_least = sum(1 for key in keys if key not in process.pins), ""
        if more <= room:
            return
        name, budget, denied, locked = "deny_budget", settings.deny_budget, process.denied, process.locked
        if room < budget - denied - locked:
            name, budget = "deny_budget_total", settings.deny_budget_total
            denied, locked = self._state.denied, self._state.locked
        size = settings.page_size
        raise LimitExceeded(
            f"a pin of {count} pages ({format_size(count * size)}) from page {first} of region {region.region_id} "
            f"would keep {at_least}{more} more frames in memory, and {room} may be: memory.{name} is {budget} pages "
            f"({format_size(budget * size)}), of which EVICTION=DENY keeps {denied} and pins {locked}; "
            "pin less at a time"
        )

    def unpin(self, event: events.Unpin) -> None:
        """End a pin of the range; raises InvalidArgument when it is not pinned."""
        region, pages = self._range(event)
        process = region.process
        loose = next((page for page in pages if region.first_key + page not in process.pins), None)
        if loose is not None:
            raise InvalidArgument(f"page {loose} of region {region.region_id} is not pinned; unpin what was pinned")
        for page in pages:
            self._life.unlock(process, region.first_key + page, region.table[page] - 1)

    def _range(self, event: events.Pin | events.Unpin) -> tuple[Region, range]:
        """The region and the pages that an event names; raises NotFound, InvalidArgument or OutOfRange."""
        region = self._state.region(event.process_id, event.region_id)
        limit = self._state.settings.frames
        if not 1 <= event.page_count <= limit:
            raise InvalidArgument(f"a pin of {event.page_count} pages; allowed are 1 to {limit}")
        end = event.first_page + max(event.page_count, getattr(event, "planned", 0))
        if event.first_page < 0 or end > region.page_count:
            raise OutOfRange(
                f"a pin of pages {event.first_page} to {end - 1} of region {region.region_id}, which has pages 0 to "
                f"{region.page_count - 1}"
            )
        return region, range(event.first_page, event.first_page + event.page_count)

    def set_policy(self, event: events.SetPolicy) -> None:
        """Put another policy in the place of one; raises NotFound, UnknownPolicy or InvalidArgument."""
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
        """Put the default in the place of the policies that made too many errors, or hung."""
        state = self._state
        processes, state.misbehaving = state.misbehaving, []
        for process in processes:
            if state.processes.get(process.process_id) is not process:
                continue  # it has ended, or was refused
            policies = process.policies
            for kind, default in zip(KINDS, (*state.settings.default_policies, NO_POLICY), strict=True):
                if kind not in policies.blame.misbehaving:
                    continue
                before, errors = policies.specifications[kind], policies.errors[kind]
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
        """Put the policies whose wait is over in the place of what stood in for them."""
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
            self._state.chores.add(hand_over)
        if kind == "cond" and process.policies.conditional:
            self._state.chores.add(tell_swapped(self._state, process))

    def set_hint(self, event: events.SetHint) -> None:
        """Put a hint on a range; raises NotFound, OutOfRange or InvalidHint."""
        state = self._state
        region = state.region(event.process_id, event.region_id)
        length = region.length - event.offset if event.length is None else event.length
        if event.offset < 0 or length < 1 or event.offset + length > region.length:
            raise OutOfRange(
                f"hint on offset {event.offset}, length {event.length}; region {region.region_id} has {region.length}"
                " bytes"
            )
        hint = event.hint
        if hint is not None and hint.swap_device is not None:
            self._device(hint.swap_device)
        page_size = state.settings.page_size
        first, end = event.offset // page_size, -(-(event.offset + length) // page_size)
        if hint is None or hint.lasting:
            self._check_hint_ranges(region, first, end, hint)
        if hint is not None and (hint.will_need or hint.dont_need) and region.process.chores >= MAX_CHORES:
            raise LimitExceeded(
                f"{region.process.chores} hints with WILLNEED or DONTNEED are still being done; try again later"
            )
        number = over_budget = 0
        if hint is not None and hint.lasting:
            number = state.next_hint
            state.next_hint += 1
        if hint is None or hint.lasting:
            over_budget = self._apply(region, first, end, number, hint)
        unheeded = () if hint is None else region.process.policies.unheeded(hint)
        state.first.append(commands.HintSet(number, first, end - first, over_budget, unheeded))
        if hint is not None and hint.dont_need:
            self._add_chore(region.process, self._reclaim.evict_range(region, first, end))
        if hint is not None and hint.will_need:
            self._add_chore(region.process, self._placement.prefetch(region, first, end))

    def _add_chore(self, process: Process, chore: Chore) -> None:
        """Begin a chore that counts as the process's until it has ended."""

        def counted() -> Chore:
            yield from chore
            process.chores -= 1

        process.chores += 1
        self._state.chores.add(counted())

    def _check_hint_ranges(self, region: Region, first: int, end: int, hint: Hint | None) -> None:
        """Raise LimitExceeded when the process has all the ranges it may have and this would make one more."""
        ranges = sum(len(each.hints) for each in region.process.regions.values())
        growth = region.hints.growth(first, end, clear=hint is None)
        if growth > 0 and ranges + growth > self._state.settings.max_hint_ranges:
            raise LimitExceeded(
                f"{ranges} ranges of the process have a hint, this would make {growth} more, and "
                f"{self._state.settings.max_hint_ranges} are allowed; hint larger ranges, or clear some"
            )

    def _device(self, name: str) -> int:
        number = self._state.swap.number_of(name)
        if number is None:
            allowed = ", ".join(f"{device.number} ({device.name})" for device in self._state.swap.devices)
            raise InvalidHint(f"swap device {name!r} does not exist; allowed are {allowed or 'none'}")
        return number

    def _apply(self, region: Region, first: int, end: int, number: int, hint: Hint | None) -> int:
        """Set or clear (`hint` None) a range and bring its resident pages in line; returns those over the budget."""
        state = self._state
        expires = None if hint is None or hint.ttl_seconds is None else state.now + hint.ttl_seconds
        region.hints.set(first, end, number, hint, expires)
        if expires is not None:
            state.hint_expiry = min(state.hint_expiry, expires)
        return self._refresh(region, first, end)

    def _refresh(self, region: Region, first: int, end: int) -> int:
        """Bring the resident pages of a range in line with the hints in force; returns those over the budget."""
        over_budget = 0
        for page, entry in region.table.entries(first, end - first):
            if entry > 0 and not self._life.apply_hint(region, page, entry - 1):
                over_budget += 1
        return over_budget

    def expire(self) -> None:
        """End the hints whose time has come and the pins that nobody used."""
        state = self._state
        if state.now >= state.hint_expiry:
            state.hint_expiry = inf
            for region in state.regions.values():
                for found in region.hints.take_expired(state.now):
                    self._refresh(region, found.first, found.end)
                state.hint_expiry = min(state.hint_expiry, region.hints.next_expiry())
        while state.pins:
            pfn, until = next(iter(state.pins.items()))
            if until > state.now:
                break
            self._life.unpin(pfn)

    def denied_pages(self, region: Region, first: int, end: int) -> int:
        """Pages of a range that EVICTION=DENY protects."""
        flags = self._state.frames.flags
        return sum(
            1 for _, entry in region.table.entries(first, end - first) if entry > 0 and flags[entry - 1] & DENIED
        )
