"""Reclaim: asks the evict policies of the processes that give frames for victims, and sweeps if they name none.

Reclaim begins when fewer than `low` frames are free, works in batches, and ends at `high`. The process furthest above
its share gives first (see `givers`), so no process pays for another that has more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from usmd.core.frames import DIRTY, HELD, PRESENT, PRIORITY_OF
from usmd.core.givers import Givers
from usmd.core.hint_order import has_lower, lowest_in_flight
from usmd.core.hints import Priority
from usmd.core.holds import Spared, end_all
from usmd.core.passed_over import PassedOver
from usmd.core.region import MOST_PATIENCE
from usmd.core.slot_room import SlotRoom
from usmd.core.sweep import Settled, Sweep
from usmd.core.victims import GIVEN_UP, LOW_WATERMARK, WAITING_FAULT
from usmd.safe_repr import safe_repr

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.policy_set import PolicySet
    from usmd.core.region import Process
    from usmd.core.state import State

MOST_A_VICTIM: Final = 16
"""Dirty pages that an evict policy may name in vain for each victim; the sweep takes less time."""


class Reclaim:
    """Begins evictions; `PageLife` ends them."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self.reclaiming = False
        """Whether reclaim is under way from below the low watermark to the high one."""
        self._idle_until = 0.0
        """Time until which reclaim rests, because it found nothing to evict."""
        self._lacked_slots = False
        """Whether it found nothing because no slot was left, of those that it could take."""
        self._barred = False
        """Whether reclaim last stopped before a page because one of lower priority is on its way in or out."""
        self._givers = Givers(state)
        self.slots = SlotRoom(state, life)
        """Slots that evictions may take."""
        self._spared = Spared(state)
        self.passed_over = PassedOver(state)
        """Victims that could not be evicted, and are not tried again for a while."""
        self._sweep = Sweep(state, life, self.slots, self.passed_over, self._givers)

    def between_marks(self) -> None:
        """After each event: evict from below the low watermark up to the high one; `State.ahead` raises both."""
        state = self._state
        settings, ahead = state.settings, state.ahead
        coming = state.frames.free + len(state.evicting) + len(state.arriving) + state.dying_frames
        high = settings.high + ahead
        if coming >= high:
            self.reclaiming = False
            return
        if coming < settings.low + ahead:
            self.reclaiming = True
        if not self.reclaiming or state.now < self._idle_until:
            return
        self.slots.use(None)
        if self.evict(min(high - coming, state.guarantees.batch), LOW_WATERMARK, spare_held=True) == 0:
            self._rest()

    def went_on(self) -> None:
        """Something has become of pages in flight: if reclaim rests because it waits for them, it goes on."""
        if self._barred:
            self._barred = False
            self._idle_until = 0.0

    def for_faults(self, wanted: int, first: Process, own: int, *, swap: bool) -> int:
        """Begin evictions for faults that wait; returns how many.

        `first`: the process of the first one, of which `own` pages wait. If others can give nothing, it gives that many
        of its own, also below its guarantee. `swap`: its page comes from swap.

        If nothing can go while I/O is in flight, it rests, because the I/O will free frames. Without any I/O all holds
        end, and every frame is looked at if counts say that a page may go, before the oom policy is asked.
        """
        state = self._state
        wanted = min(wanted, state.guarantees.batch)
        in_flight = bool(self._life.evicting or self._life.filling or state.releasing or state.refreshing)
        self.slots.use(first, swap=swap)
        if in_flight and state.now < self._idle_until and not (self._lacked_slots and self.slots.to_spare() > 0):
            return 0
        begun = self.evict(wanted) or self._from_itself(first, own, wanted)
        if begun == 0 and in_flight:
            self._rest()
        elif begun == 0 and self.passed_over.may_try and self.slots.something_could_go():
            end_all(state, self._life)
            self.passed_over.try_refused_again()
            begun = self.evict(wanted)
            if begun == 0 and any(map(self._may_give, state.processes.values())):
                begun = self._sweep.any(wanted, WAITING_FAULT)
            if begun == 0 and self._has_some(first):
                begun = self._from_itself(first, own, wanted, state.frames.count)
        return begun

    def _may_give(self, process: Process) -> bool:
        """Whether a process may lose a page to others, as far as counts tell."""
        return (not process.memory_min or self._givers.most(process) > 0) and self._has_some(process)

    def _has_some(self, process: Process) -> bool:
        """Whether a process has a page that may go, as far as counts tell."""
        some = process.resident > max(process.unevictable, process.pinned)
        return some and (self.slots.of(process) > 0 or self._state.budgets.clean(process) > 0)

    def _rest(self) -> None:
        self._idle_until = self._state.now + self._state.settings.reclaim_rest
        self._lacked_slots = self.slots.to_spare() <= 0

    def _from_itself(self, process: Process, own: int, wanted: int, limit: int = 0) -> int:
        """Evict pages for `own` faults of a process, also within its guarantee; how many. `limit`: of a sweep, or 0."""
        wanted = min(own - process.leaving, wanted)
        for each in self._state.guarantees.within(process) if wanted > 0 else ():  # else no sweep either
            begun = self.from_process(each, wanted)
            if begun or (limit and (begun := self._sweep.of(each, wanted, limit, WAITING_FAULT))):
                return begun
        return 0

    def evict(self, wanted: int, reason: str = WAITING_FAULT, *, spare_held: bool = False) -> int:
        """Begin up to `wanted` evictions, in the order of `Givers`; returns how many.

        `reason`, `spare_held`: as for `from_process`.
        """
        if self.slots.to_spare() <= 0 and not self.slots.something_could_go():
            return 0
        self._state.guarantees.balance()
        left = wanted
        barred = False
        more: list[Process] = []
        for process, gives in self._givers.in_turn(wanted):
            gives = min(gives, left)
            begun = self.from_process(process, gives, reason, spare_held=spare_held)
            left -= begun
            barred = barred or self._barred
            if left <= 0:
                break
            if begun == gives:
                more.append(process)
        for process in more:
            if left <= 0:
                break
            left -= self.from_process(process, min(left, self._givers.most(process)), reason, spare_held=spare_held)
            barred = barred or self._barred
        self._barred = barred
        begun = wanted - left
        if begun:
            self._state.notice(
                "pages_evicted", 0, f"{begun} pages chosen for eviction", {"pages": str(begun), "wanted": str(wanted)}
            )
        return begun

    def from_process(
        self, process: Process, wanted: int, reason: str = WAITING_FAULT, *, spare_held: bool = False
    ) -> int:
        """Evict what the policy names, one by one, so it knows which victims went when it names the next.

        A held frame is passed over, but goes before a frame of higher priority that the policy names after it: a hold
        never reverses the order of hints. `spare_held`: held frames stay for `reclaim_rest`, and so do frames of higher
        priority. Nor do pages in flight reverse it, see `hint_order`. `reason`: one of `victims.REASONS`. Returns how
        many evictions began.
        """
        if wanted <= 0 or self._state.budgets.gives_nothing(process):
            return 0
        chosen = 0
        self._barred = False
        while chosen < wanted:
            begun, held = self._from_policy(process, wanted - chosen)
            may_go = [pfn for pfn in held if not (spare_held and self._spared.spares(pfn))]
            taken = self._take_all_held(process, may_go[: wanted - chosen - begun])
            chosen += begun + taken
            if not taken:
                break
        if chosen or self._barred:
            self._state.victims.add(process.policies.specifications["evict"], reason, chosen)
            return chosen
        begun = self._sweep.of(process, wanted, self._state.settings.scan_limit, reason)
        self._barred = self._sweep.barred
        return begun

    def _take_all_held(self, process: Process, held: list[int]) -> int:
        """Evict held frames, in order of priority, until one has a higher priority than one that went."""
        frames = self._state.frames
        bar, taken = Priority.HIGH.value, 0
        for pfn in held:
            key, priority = frames.page[pfn], PRIORITY_OF[frames.flags[pfn]]
            if priority > bar:
                break
            if self.take(process, pfn, held=True):
                self._spared.forget(key)
                bar = priority
                taken += 1
        return taken

    def _from_policy(self, process: Process, wanted: int) -> tuple[int, list[int]]:
        """Evict what the policy names; returns how many, and the held frames to evict before asking again."""
        named = process.policies.candidates(max(self._state.settings.scan_limit, wanted))
        try:
            return self._evict_named(process, wanted, named)
        finally:
            named.close()  # compiled, it is not closed when nothing refers to it any more

    def _evict_named(self, process: Process, wanted: int, named: Iterator[int]) -> tuple[int, list[int]]:
        flags, recent = self._state.frames.flags, self._state.recent
        passing = self.passed_over
        policies = process.policies
        slots = self.slots.of(process)
        if slots > 0:
            process.patience = MOST_PATIENCE
        name = policies.specifications["evict"]
        explained = self._state.settings.eviction_records > 0
        held: list[int] = []
        lowest = Priority.HIGH.value
        """Lowest priority of a held frame."""
        bar = Priority.HIGH.value
        """No page of a higher priority than this goes: one of this has just gone, or is in flight."""
        floor = process.lowest_priority if policies.by_priority else bar
        looked = False
        without_slot = 0
        chosen = 0
        for pfn in named:
            if self._sweep.unsettled and (settled := self._sweep.settle(pfn)):
                chosen += settled is Settled.GONE
                if chosen >= wanted:
                    break
                continue  # the policy was notified, and may name it again
            wrong = self._life.objection(process, pfn)
            if wrong is not None:
                policies.record_error("evict", f"choose_victims named frame {safe_repr(pfn)}, which is {wrong}")
            elif slots <= 0 and flags[pfn] & DIRTY:
                process.counters.refused_victims += 1
                without_slot += 1
                if without_slot >= process.patience:
                    break
            elif passing and pfn in passing:
                process.counters.refused_victims += 1
            elif flags[pfn] & HELD or pfn in recent:
                process.counters.refused_victims += 1
                held.append(pfn)
                lowest = min(lowest, PRIORITY_OF[flags[pfn]])
            else:
                priority = PRIORITY_OF[flags[pfn]]
                if priority > floor and not looked:
                    bar = lowest_in_flight(self._state, process, bar)
                    looked = True
                if priority > bar or priority > lowest:
                    self._barred = priority > bar
                    lower = [each for each in held if PRIORITY_OF[flags[each]] < min(priority, bar + 1)]
                    return chosen, sorted(lower, key=lambda each: PRIORITY_OF[flags[each]])
                if priority < bar and policies.by_priority:
                    bar = priority
                slots -= flags[pfn] & DIRTY
                self._life.evict(pfn, name, self._reason(policies, pfn) if explained else "")
                chosen += 1
                if chosen >= wanted:
                    break
        if slots <= 0:
            patience = process.patience
            in_vain = without_slot > MOST_A_VICTIM * chosen
            process.patience = max(patience // 2, 1) if in_vain else min(patience + patience // 8 + 1, MOST_PATIENCE)
        return chosen, []

    def take(self, process: Process, pfn: int, *, held: bool = False) -> bool:
        """Evict a frame that the evict policy named, if possible; returns whether it was. `held`: even if held."""
        if self._sweep.unsettled and self._sweep.settle(pfn) is Settled.GONE:
            return True
        if self._life.objection(process, pfn) is not None or pfn in self.passed_over:
            return False
        if self._sweep.is_held(pfn) and not held:
            return False
        if self._state.frames.flags[pfn] & DIRTY and self.slots.of(process) <= 0:
            return False
        policies = process.policies
        self._life.evict(pfn, policies.specifications["evict"], self._reason(policies, pfn))
        return True

    def _reason(self, policies: PolicySet, pfn: int) -> str:
        """Why a victim goes, and how long ago its last fault was."""
        age = self._state.now - self._state.frames.filled[pfn]
        return f"{policies.reason(pfn)}; last fault {max(age, 0.0):.1f} s ago"

    def evict_forced(self) -> None:
        """Evict the frames that policies gave up (`give_up`), as far as they may be evicted."""
        state = self._state
        self.slots.use(None)
        forced = state.forced_victims[:]
        state.forced_victims.clear()
        frames = state.frames
        for process, pfn, key in dict.fromkeys(forced):
            if process.process_id not in state.processes:
                continue
            if 0 <= pfn < frames.count and (frames.state[pfn] != PRESENT or frames.page[pfn] != key):
                continue  # the same event has evicted it already
            if self._sweep.unsettled and self._sweep.settle(pfn):
                continue
            wrong = self._life.objection(process, pfn)
            if wrong is not None:
                process.policies.record_error("evict", f"give_up named frame {safe_repr(pfn)}, which is {wrong}")
            elif not has_lower(state, process, pfn) and self.take(process, pfn):
                state.victims.add(process.policies.specifications["evict"], GIVEN_UP, 1)

    def lacks_slots(self, process: Process) -> bool:
        """Whether no eviction of a dirty page of a process may begin, or pages were passed over despite free slots."""
        return self.slots.of(process) <= 0 or bool(self.passed_over)
