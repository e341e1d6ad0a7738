"""The policies of one process, fenced in: whatever they do, the core gets a usable answer.

An exception or an answer that makes no sense is counted and reported, and so, apart from those, is a call that takes
too long; where the answer cannot be used, the default stands in: one page on the first free frame, victims by a sweep
over the frames, refusal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from types import GeneratorType
from typing import TYPE_CHECKING, Final, TypeVar, cast

from usmd.core.blame import Blame
from usmd.core.frame_list import FrameLinks
from usmd.core.frames import KEPT, PRESENT
from usmd.core.hints import MAX_HINT_BYTES, Hint, policy_keys
from usmd.core.policy import (
    ANY_EXTRA,
    USM_YIELD,
    Allocation,
    AllocPolicy,
    AsyncRequest,
    ConditionalPolicy,
    EvictPolicy,
    Fault,
    OomPolicy,
    Policy,
    Wishes,
)
from usmd.core.region import PAGE_BITS
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument, UsmdError
from usmd.shown import contexts, cut, shown, type_name
from usmd.shown import place as place_of

if TYPE_CHECKING:
    from usmd.core.chores import Chore
    from usmd.core.region import Process
    from usmd.core.state import State

_P = TypeVar("_P", bound=Policy)


class PolicyHung(BaseException):
    """Raised within a call of a policy that does not return, by whoever watches; it says where the call was.

    No Exception, because the policy may catch those.
    """


ANYTHING: Final = BaseException
"""What a policy may raise without hurting the daemon. Who catches it calls `broke`, which lets through what is none."""


class EndsRun(BaseException):
    """Raised within a call of a policy by who runs the core, to end all of that: no error of the policy."""


_MAX_KEYS: Final = 1024
"""Hint keys that a policy may say it heeds."""
NO_POLICY: Final = "none"
"""Specification of no conditional policy."""


def _hung(error: BaseException | None) -> bool:
    """Whether an exception is, or came in the handling of, PolicyHung."""
    return any(isinstance(each, PolicyHung) for each in contexts(error))


def _is_reported(count: int) -> bool:
    """Whether it is the 1st, 2nd, 4th, 8th … time."""
    return count & (count - 1) == 0


def place(error: BaseException) -> str:
    """Where a policy raised an exception, for a message; nothing for one that was raised from outside."""
    return "" if isinstance(error, PolicyHung) else place_of(error)


class GuardedPolicies:
    """One alloc, one evict and one oom policy for a process, and a conditional one if it has one.

    `specifications` are the texts they were made from; `blame` counts what they did wrong, and `errors` is its count
    of answers that were not used, by kind. `on_access` is the evict policy's `page_accessed` where it has one, else
    None, and `on_miss` its `page_missed`. The hot path calls them directly, and `broke` when one raises; a replay does
    so with `on_fill` and `on_evict`, which are its `page_filled` and `page_evicted` (or `page_left`, which that
    calls). A policy that made too many errors, or hung, is in `blame.misbehaving`, and is replaced between events.
    `_known`: while pages are handed over to a new evict policy, 1 for the frames that it has heard of; None: it knows
    all. `on_swapped` and `on_returned` are the conditional policy's `page_swapped` and `page_returned` where it has
    them, else None.
    """

    __slots__ = (
        "_alloc", "_async_rq", "_cond", "_evict", "_known", "_links", "_oom", "_process", "_slow", "_state", "blame",
        "errors", "on_access", "on_evict", "on_fill", "on_miss", "on_returned", "on_swapped", "specifications",
    )  # fmt: skip

    def __init__(self, state: State, process: Process, specifications: dict[str, str]) -> None:
        """Make the policies; raises UsmdError where a specification names none. One that breaks is reported."""
        self._state = state
        self._process = process
        self._async_rq = AsyncRequest()
        self.specifications = dict(specifications)
        self.blame = Blame(specifications)
        self.errors = self.blame.errors
        self._slow = state.settings.policy_slow_seconds
        self._links = state.links
        self._known: bytearray | None
        view = MemoryView(state, process)
        self._alloc: AllocPolicy | None = self._make("alloc", AllocPolicy, view)  # type: ignore[type-abstract]
        self._oom: OomPolicy | None = self._make("oom", OomPolicy, view)  # type: ignore[type-abstract]
        self._evict: EvictPolicy | None
        self._use_evict(self._make("evict", EvictPolicy, view))  # type: ignore[type-abstract]
        self._cond: ConditionalPolicy | None
        self._use_cond(None)
        if self.specifications["cond"] != NO_POLICY:
            self._use_cond(self._make("cond", ConditionalPolicy, view))  # type: ignore[type-abstract]

    def _use_evict(self, policy: EvictPolicy | None) -> None:
        self._evict = policy
        self._known = None
        self.on_access = self.on_miss = self.on_fill = self.on_evict = None
        if policy is not None:
            try:
                self.on_fill = policy.page_filled
                remembers = type(policy).page_evicted is not EvictPolicy.page_evicted
                self.on_evict = policy.page_evicted if remembers else policy.page_left
                self.on_access = policy.page_accessed if policy.hears_accesses else None
                self.on_miss = policy.page_missed if policy.hears_misses else None
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"it raised {shown(error)}{place(error)} when it was asked what it hears")

    def _use_cond(self, policy: ConditionalPolicy | None) -> None:
        self._cond = policy
        self.on_swapped: Callable[[int, int], None] | None = None
        self.on_returned: Callable[[int], None] | None = None
        if policy is not None:
            try:
                if type(policy).page_swapped is not ConditionalPolicy.page_swapped:
                    self.on_swapped = policy.page_swapped
                if type(policy).page_returned is not ConditionalPolicy.page_returned:
                    self.on_returned = policy.page_returned
            except ANYTHING as error:  # a policy may raise anything
                self.broke("cond", f"it raised {shown(error)}{place(error)} when it was asked what it hears")
            state = self._state
            state.turn_at = min(state.turn_at, state.now + state.settings.cond_interval)

    def _make(self, kind: str, base: type[_P], view: MemoryView) -> _P | None:
        try:
            policy = self._state.make_policy(kind, self.specifications[kind], view)
        except UsmdError:
            raise
        except ANYTHING as error:  # a policy's constructor may raise anything
            self.broke(kind, f"its constructor raised {shown(error)}{place(error)}")
            return None
        if not isinstance(policy, base):
            self.broke(kind, f"it is a {type_name(policy)}, not a {base.__name__}")
            return None
        return policy

    def broke(self, kind: str, what: str) -> None:
        """Count an answer that was not used, and report it; a policy that hung is called no more.

        Raises again what is handled when this is called, if that is no error of the policy.
        """
        error = sys.exception()
        self._let_through(error)
        if _hung(error):
            self._stop_using(kind)
            self.blame.hung.add(kind)
            self._misbehaves(kind, "did not return from a call")
        self._count_error(kind, what)

    def _let_through(self, error: BaseException | None) -> None:
        interrupts = isinstance(error, KeyboardInterrupt) and self._state.settings.interruptible
        if error is not None and (interrupts or isinstance(error, EndsRun)):
            raise error

    def _count_error(self, kind: str, what: str) -> None:
        self._process.counters.policy_errors += 1
        self.blame.count_error(kind, self._state.now)
        count = self.errors[kind]
        if self.blame.errs_too_often(kind, self._state.settings.policy_errors, self._state.now):
            self._misbehaves(kind, f"made {count} errors")
        if _is_reported(count):
            self._state.notice("policy_error", *self._told(kind, what, count))

    def _told(self, kind: str, what: str, count: int) -> tuple[int, str, dict[str, str]]:
        """Process, message and fields of a notice."""
        name = self.specifications[kind]
        fields = {"policy": name, "policy_kind": kind, "count": str(count)}
        return self._process.process_id, f"{kind} policy {name}: {what} ({count} so far)", fields

    def _misbehaves(self, kind: str, what: str) -> None:
        if kind not in self.blame.misbehaving:
            self.blame.misbehaving[kind] = what
            self._state.misbehaving.append(self._process)

    def _timed(self, kind: str, stopwatch: Callable[[], float], started: float) -> None:
        """Report a call that took long, if it is `stopwatch`'s to tell that the policy was slow."""
        took = stopwatch() - started
        if took > self._slow and self._state.tells_slowness(stopwatch):
            self._process.counters.policy_slow_calls += 1
            self.blame.slow[kind] += 1
            count = self.blame.slow[kind]
            if _is_reported(count):
                self._state.notice("policy_slow", *self._told(kind, f"a call took {took * 1000:.0f} ms", count))

    def allocate(self, fault: Fault) -> tuple[Allocation, bool]:
        """What to bring in for a fault, and whether to answer USM_YIELD."""
        if self._alloc is None:
            return Allocation(fault.page), False
        request = self._async_rq
        request.plan = None
        stopwatch = self._state.stopwatch
        started = stopwatch()
        try:
            answer = self._alloc.allocate(fault, request)
        except ANYTHING as error:  # a policy may raise anything
            self.broke("alloc", f"allocate raised {shown(error)}{place(error)}")
            return Allocation(fault.page), False
        if stopwatch() - started > self._slow:
            self._timed("alloc", stopwatch, started)
        yields = answer is USM_YIELD
        plan: object = request.plan if yields else answer
        if type(plan) is Allocation:
            first, count, frame = plan.first, plan.count, plan.frame
            if (
                type(first) is type(count) is int
                and first <= fault.page < first + count
                and (frame is None or type(frame) is int)
            ):
                return plan, yields
        self.broke("alloc", f"allocate answered {shown(plan)} to a fault on page {fault.page}")
        return Allocation(fault.page), False

    def replace(self, kind: str, specification: str) -> Chore | None:
        """Put another policy in the place of one; raises UsmdError where there is none such, and nothing has changed.

        What is returned for an evict policy hands the pages over, part by part.
        """
        if kind == "cond" and specification == NO_POLICY:
            self.give_up_on(kind)
            return None
        links = FrameLinks(self._state.frames.count) if kind == "evict" else self._links
        view = MemoryView(self._state, self._process, links)
        try:
            policy = self._state.make_policy(kind, specification, view)
        except UsmdError:
            raise
        except ANYTHING as error:  # a policy's constructor may raise anything
            self._let_through(error)
            raise InvalidArgument(
                f"{kind} policy {specification}: its constructor raised {shown(error)}{place(error)}"
            ) from error
        if isinstance(policy, AllocPolicy) and kind == "alloc":
            self._alloc = policy
        elif isinstance(policy, OomPolicy) and kind == "oom":
            self._oom = policy
        elif isinstance(policy, ConditionalPolicy) and kind == "cond":
            self._use_cond(policy)
        elif isinstance(policy, EvictPolicy) and kind == "evict":
            return self._begin_hand_over(policy, links, specification)
        else:
            raise InvalidArgument(f"{specification} is a {type_name(policy)}, which is no {kind} policy")
        self._began(kind, specification)
        return None

    def _begin_hand_over(self, policy: EvictPolicy, links: FrameLinks, specification: str) -> Chore:
        old = self._evict
        self._links = links
        self._began("evict", specification)
        self._use_evict(policy)
        known = self._known = bytearray(self._state.frames.count)
        self.on_fill = self.on_evict = None
        on_access = self.on_access
        if on_access is not None:

            def if_known(pfn: int, write: bool) -> None:
                if known[pfn]:
                    on_access(pfn, write)

            self.on_access = if_known
        return self._hand_over(old, policy, known)

    def _hand_over(self, old: EvictPolicy | None, new: EvictPolicy, known: bytearray) -> Chore:
        """Tell a new evict policy of the pages there are: first what the old one knew, in the order of its victims.

        Until it has heard of a page it hears nothing else of it; meanwhile the sweep can evict that page.
        """
        for pfn in self._order_of(old):
            if self._known is not known:
                return  # yet another policy has taken its place, or the process is gone
            if 0 <= pfn < len(known) and not known[pfn] and self._is_evictable(pfn):
                self.page_filled(pfn)
            yield True
        for region in list(self._process.regions.values()):
            for _, pfn in region.table.resident():
                if self._known is not known:
                    return
                if not known[pfn] and self._is_evictable(pfn):
                    self.page_filled(pfn)
                yield True
        if self._known is known:
            self._use_evict(new)

    def _order_of(self, old: EvictPolicy | None) -> Iterator[int]:
        """The frames that a policy which is in force no more would have evicted, best first, as far as it tells."""

        def told(what: str) -> None:
            self._let_through(sys.exception())
            self._count_error("evict", f"the policy before it: {what}")

        if old is not None:
            for pfn in self._named(old, 2 * self._state.frames.count, told):
                if type(pfn) is not int:
                    return
                yield pfn

    def _is_evictable(self, pfn: int) -> bool:
        state = self._state
        frames = state.frames
        if frames.state[pfn] != PRESENT or frames.flags[pfn] & KEPT:
            return False
        return state.regions[frames.page[pfn] >> PAGE_BITS].process is self._process

    def ended(self) -> None:
        """The process is gone: nothing is handed over any more."""
        self._known = bytearray()

    def _began(self, kind: str, specification: str) -> None:
        self.specifications[kind] = specification
        self.blame.began(kind)

    def give_up_on(self, kind: str) -> None:
        """Leave a kind to the core's own default, because no policy of it works."""
        self._stop_using(kind)
        self._began(kind, NO_POLICY)

    def _stop_using(self, kind: str) -> None:
        if kind == "alloc":
            self._alloc = None
        elif kind == "oom":
            self._oom = None
        elif kind == "cond":
            self._use_cond(None)
        else:
            self._use_evict(None)

    def page_filled(self, pfn: int) -> None:
        """Tell the evict policy of a page that may be evicted; its frame is in no list, whoever forgot it there."""
        links = self._links
        if links.owner[pfn]:
            links.release(pfn)
        if self._known:
            self._known[pfn] = 1
        if self._evict is not None:
            try:
                self._evict.page_filled(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"page_filled raised {shown(error)}{place(error)}")

    def _knows(self, pfn: int, *, leaves: bool = False) -> bool:
        """Whether the evict policy has heard of a page, which it has but for a hand-over; `leaves`: it will not now."""
        known = self._known
        if not known:
            return True
        found = known[pfn] != 0
        if leaves:
            known[pfn] = 0
        return found

    def page_left(self, pfn: int) -> None:
        """Tell the evict policy of a page that may no longer be evicted."""
        if self._knows(pfn, leaves=True) and self._evict is not None:
            try:
                self._evict.page_left(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"page_left raised {shown(error)}{place(error)}")

    def page_evicted(self, pfn: int) -> None:
        """Tell the evict policy of a page that is evicted."""
        if self._knows(pfn, leaves=True) and self._evict is not None:
            try:
                self._evict.page_evicted(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"page_evicted raised {shown(error)}{place(error)}")

    def page_accessed(self, pfn: int, *, write: bool) -> None:
        """Tell the evict policy of a touch of a page that is there."""
        if self.on_access is not None:
            try:
                self.on_access(pfn, write)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"page_accessed raised {shown(error)}{place(error)}")

    def page_missed(self, page: int) -> None:
        """Tell the evict policy that a page which is in no frame was asked for."""
        if self.on_miss is not None:
            try:
                self.on_miss(page)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"page_missed raised {shown(error)}{place(error)}")

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Tell the evict policy that another hint is in force."""
        if self._knows(pfn) and self._evict is not None:
            try:
                self._evict.hint_changed(pfn, priority_before)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"hint_changed raised {shown(error)}{place(error)}")

    def unheeded(self, hint: Hint) -> list[str]:
        """Keys of a hint that no policy of the process acts on, as far as they all say what they heed."""
        heeded: set[str] = set()
        for kind, policy in (
            ("alloc", self._alloc), ("evict", self._evict), ("oom", self._oom), ("cond", self._cond),
        ):  # fmt: skip
            if policy is None:
                continue
            try:
                keys = policy.heeded_keys()
                if keys is None:
                    return []
                heeded.update(key[:MAX_HINT_BYTES].upper() for key in islice(keys, _MAX_KEYS) if isinstance(key, str))
            except ANYTHING as error:  # a policy may raise anything
                self.broke(kind, f"heeded_keys raised {shown(error)}{place(error)}")
                return []
        if ANY_EXTRA in heeded:
            heeded.update(hint.extra)
        return [key for key in policy_keys(hint) if key not in heeded]

    @property
    def single_page(self) -> bool:
        """Whether the alloc policy brings in the faulting page and nothing else, on any frame, whatever it is asked."""
        return self._alloc is None or type(self._alloc).single_page is True

    def first_victim(self) -> int:
        """The frame that the evict policy names first, or -1: it names none, or what it names is no number."""
        if self._evict is not None:
            try:
                for pfn in self._evict.choose_victims():
                    return pfn if type(pfn) is int else -1
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"choose_victims raised {shown(error)}{place(error)}")
        return -1

    def candidates(self, limit: int) -> Iterator[int]:
        """At most `limit` frames that the evict policy names, each an int; the caller checks what they are."""
        policy = self._evict
        if policy is None:
            return
        stopwatch = self._state.stopwatch
        started = stopwatch()
        named = self._named(policy, limit, partial(self.broke, "evict"))
        try:
            for pfn in named:
                if type(pfn) is int:
                    yield pfn
                    if policy is not self._evict:
                        break  # it hung when it heard what became of that one
                else:
                    self.broke("evict", f"choose_victims named {shown(pfn)}, which is no frame")
        finally:  # also when the caller has enough and asks for no more
            named.close()
            self._timed("evict", stopwatch, started)

    def _named(self, policy: EvictPolicy, limit: int, told: Callable[[str], None]) -> Generator[object, None, None]:
        """What an evict policy names, at most `limit` of it; `told` hears of what it raises."""
        named: Iterator[object] = iter(())
        try:
            named = iter(cast("Iterable[object]", policy.choose_victims()))  # whatever it says of itself
        except ANYTHING as error:  # a policy may raise anything
            told(f"choose_victims raised {shown(error)}{place(error)}")
        try:
            for _ in range(limit):
                try:
                    pfn = next(named)
                except StopIteration:
                    return
                except ANYTHING as error:  # a policy may raise anything
                    told(f"choose_victims raised {shown(error)}{place(error)}")
                    return
                yield pfn
        finally:
            if isinstance(named, GeneratorType):
                self._close(named, told)

    def _close(self, named: Generator[object, object, object], told: Callable[[str], None]) -> None:
        """End a generator of victims here, where what its `finally` does is noticed."""
        try:
            named.close()
        except ANYTHING as error:  # a policy may raise anything
            told(f"choose_victims raised {shown(error)}{place(error)} when it was closed")

    def reason(self, pfn: int) -> str:
        """Why the evict policy chose a frame."""
        if self._evict is not None:
            try:
                reason: object = self._evict.reason(pfn)
                return cut(reason) if type(reason) is str else shown(reason)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"reason raised {shown(error)}{place(error)}")
        return "no reason given"

    def swap_device(self, pfn: int) -> int | None:
        """The device that the evict policy wants for a victim, or None."""
        if self._evict is not None:
            try:
                number: object = self._evict.swap_device(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("evict", f"swap_device raised {shown(error)}{place(error)}")
                return None
            if number is None or (type(number) is int and 0 <= number < len(self._state.swap.devices)):
                return number
            self.broke("evict", f"swap_device answered {shown(number)}, which is no device")
        return None

    def page_swapped(self, page: int, device: int) -> None:
        """Tell the conditional policy, if it listens, of a page that is on a swap device now."""
        if self.on_swapped is not None:
            try:
                self.on_swapped(page, device)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("cond", f"page_swapped raised {shown(error)}{place(error)}")

    def page_returned(self, page: int) -> None:
        """Tell the conditional policy, if it listens, of a page that is not to be wished for any more."""
        if self.on_returned is not None:
            try:
                self.on_returned(page)
            except ANYTHING as error:  # a policy may raise anything
                self.broke("cond", f"page_returned raised {shown(error)}{place(error)}")

    @property
    def conditional(self) -> bool:
        """Whether there is a conditional policy."""
        return self._cond is not None

    def turn(self, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """What the conditional policy wishes: pages to trim, to bring back, and to move to a device, each a number.

        At most `limit` of each kind; what they say of pages and devices is for the caller to check.
        """
        if self._cond is None:
            return 0, [], []
        stopwatch = self._state.stopwatch
        started = stopwatch()
        try:
            answer = self._read(self._cond.turn(), limit)
        except ANYTHING as error:  # a policy may raise anything
            self.broke("cond", f"turn raised {shown(error)}{place(error)}")
            return 0, [], []
        self._timed("cond", stopwatch, started)
        return answer

    def _read(self, wishes: object, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """The wishes that are numbers; each that is none is an error. Looks at the first `limit` of each kind."""
        if not isinstance(wishes, Wishes):
            if wishes is not None:
                self.broke("cond", f"turn answered {shown(wishes)}, which is no Wishes")
            return 0, [], []
        trim: object = wishes.trim
        if type(trim) is not int or trim < 0:
            self.broke("cond", f"turn wished to trim {shown(trim)} pages")
            trim = 0
        swap_in: list[int] = []
        named: Iterable[object] = wishes.swap_in
        for page in islice(named, limit):
            if type(page) is int:
                swap_in.append(page)
            else:
                self.broke("cond", f"turn wished page {shown(page)} back, which is no page")
        demote: list[tuple[int, int]] = []
        named = wishes.demote
        for pair in islice(named, limit):
            if type(pair) is tuple and len(pair) == 2 and type(pair[0]) is type(pair[1]) is int:
                demote.append(pair)
            else:
                self.broke("cond", f"turn wished {shown(pair)} demoted, which is no page and device")
        return min(trim, limit), swap_in, demote

    def out_of_memory(self, fault: Fault) -> int | None:
        """Number of a process that has memory and shall lose it, or None to refuse the fault."""
        if self._oom is None:
            return None
        stopwatch = self._state.stopwatch
        started = stopwatch()
        try:
            answer = self._oom.choose(fault)
        except ANYTHING as error:  # a policy may raise anything
            self.broke("oom", f"choose raised {shown(error)}{place(error)}")
            return None
        self._timed("oom", stopwatch, started)
        if answer is None:
            return None
        victim = self._state.processes.get(answer) if type(answer) is int else None
        if victim is None or victim.resident == 0:
            self.broke("oom", f"choose answered {shown(answer)}, which is no process with memory")
            return None
        return victim.process_id
