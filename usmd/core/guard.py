"""The policies of one process, fenced in: whatever they do, the core gets a usable answer.

Exceptions and invalid answers are counted and reported, and apart from those, calls that take too long. In place of an
invalid answer the core uses its default: one page on the first free frame, victims by a sweep over the frames, refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from usmd.core.allocation import USM_YIELD, Allocation, AsyncRequest, Fault
from usmd.core.fence import ANYTHING, heeded_by, place
from usmd.core.frame_list import FrameLinks
from usmd.core.hand_over import HandOver
from usmd.core.hints import Hint, policy_keys
from usmd.core.policy import ANY_EXTRA, MOST_PATIENCE, AllocPolicy, ConditionalPolicy, EvictPolicy, OomPolicy
from usmd.core.running import Call
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument, UsmdError
from usmd.safe_repr import safe_repr, type_name

if TYPE_CHECKING:
    from usmd.core.pages_left import Steps
    from usmd.core.region import Process
    from usmd.core.state import State

_NO_PLAN: Allocation | None = None
"""Not Final, and not None where it is used: mypy would take it that `AsyncRequest.plan` stays None."""
_ONE: Final[object] = 1
"""CPython has one object for each small int, so what is this one is an int, and no bool or float that equals 1."""
_NO_ANSWER: Final = object()
NO_POLICY: Final = "none"
"""Specification of no conditional policy."""


class GuardedPolicies(HandOver):
    """The alloc, evict and oom policy of a process, and its conditional policy if there is one."""

    def __init__(self, state: State, process: Process, specifications: dict[str, str]) -> None:
        """Make the policies; raises UsmdError for an invalid specification. An exception of a policy is reported."""
        super().__init__(state, process, specifications)
        self._async_rq = AsyncRequest()
        self._links = state.links
        view = MemoryView(state, process)
        self._alloc: AllocPolicy | None = None
        self._answers_batches = False
        self._use_alloc(self._make("alloc", AllocPolicy, view))  # type: ignore[type-abstract]
        self._oom: OomPolicy | None = self._make("oom", OomPolicy, view)  # type: ignore[type-abstract]
        self._use_evict(self._make("evict", EvictPolicy, view))  # type: ignore[type-abstract]
        self._use_cond(None)
        if self.specifications["cond"] != NO_POLICY:
            self._use_cond(self._make("cond", ConditionalPolicy, view))  # type: ignore[type-abstract]

    def allocate(self, fault: Fault) -> tuple[Allocation, bool]:
        """The pages to bring in for a fault, and whether to answer USM_YIELD."""
        policy: Any = self._alloc  # see ANYTHING
        if policy is None:
            return Allocation(fault.page), False
        request = self._async_rq
        request.plan = _NO_PLAN
        stopwatch = self._state.stopwatch
        started = stopwatch()
        self._running.call = self._alloc_call
        try:
            answer: object = policy.allocate(fault, request)
        except ANYTHING as error:  # a policy may raise anything
            self.raised("alloc", "allocate", error)
            return Allocation(fault.page), False
        if stopwatch() - started > self._slow:
            self._timed("alloc", stopwatch, started)
        yields = answer is USM_YIELD
        plan: Any = request.plan if yields else answer
        exact = type(plan) is Allocation
        if exact:  # by way of a variable, so that mypy, and thus mypyc, does not take it that the fields are ints
            if plan.first is fault.page and plan.count is _ONE is plan.stride and plan.frame is None:
                return plan, yields  # the usual answer; no look at types
            first, count, frame, stride = plan.first, plan.count, plan.frame, plan.stride
            if (
                type(first) is type(count) is type(stride) is int
                and stride > 0
                and first <= fault.page < first + count * stride
                and (stride == 1 or (fault.page - first) % stride == 0)
                and (frame is None or type(frame) is int)
            ):
                return plan, yields
        self.record_error("alloc", f"allocate answered {safe_repr(plan)} to a fault on page {fault.page}")
        return Allocation(fault.page), False

    def come_alone(self, region_id: int, pages: list[int]) -> int:
        """How many of these pages, from the first on, the alloc policy brings in alone, see its `come_alone`."""
        policy = self._alloc
        if policy is None:
            return len(pages)
        if not self._answers_batches:
            return 0
        answer = self._ask("alloc", policy, self._alloc_call, "come_alone", region_id, pages)
        if type(answer) is int and 0 <= answer <= len(pages):
            return answer
        if answer is not _NO_ANSWER:
            self.record_error("alloc", f"come_alone answered {safe_repr(answer)} about {len(pages)} pages")
        return 0

    def _use_alloc(self, policy: AllocPolicy | None) -> None:
        self._alloc = policy
        self._answers_batches = False
        if policy is not None:
            self._running.call = self._alloc_call
            try:
                self._answers_batches = bool(policy.answers_batches)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("alloc", "answers_batches", error)

    def replace(self, kind: str, specification: str) -> Steps | None:
        """Replace a policy; if this raises UsmdError, nothing has changed.

        For an evict policy, returns the steps that hand the pages over.
        """
        if kind == "cond" and specification == NO_POLICY:
            self.give_up_on(kind)
            return None
        links = FrameLinks(self._state.frames.count) if kind == "evict" else self._links
        view = MemoryView(self._state, self._process, links)
        self._running.call = Call(self._process.process_id, kind)
        try:
            policy = self._state.make_policy(kind, specification, view)
        except UsmdError:
            raise
        except ANYTHING as error:  # a policy's constructor may raise anything
            self._running.call = None
            self._let_through(error)
            raise InvalidArgument(
                f"{kind} policy {specification}: its constructor raised {safe_repr(error)}{place(error)}"
            ) from error
        if isinstance(policy, AllocPolicy) and kind == "alloc":
            self._use_alloc(policy)
        elif isinstance(policy, OomPolicy) and kind == "oom":
            self._oom = policy
        elif isinstance(policy, ConditionalPolicy) and kind == "cond":
            self._use_cond(policy)
        elif isinstance(policy, EvictPolicy) and kind == "evict":
            return self._begin_hand_over(policy, links, specification)
        else:
            raise InvalidArgument(f"{specification} is a {type_name(policy)}, not a policy of kind {kind}")
        self._began(kind, specification)
        return None

    def give_up_on(self, kind: str) -> None:
        """Use the core's own default for a kind, because no policy of that kind works."""
        self._stop_using(kind)
        self._began(kind, NO_POLICY)

    def _stop_using(self, kind: str) -> None:
        if kind == "alloc":
            self._use_alloc(None)
        elif kind == "oom":
            self._oom = None
        elif kind == "cond":
            self._use_cond(None)
        else:
            self._use_evict(None)

    def unheeded(self, hint: Hint) -> list[str]:
        """Keys of a hint that no policy of the process acts on; none if a policy does not say what it heeds."""
        heeded: set[str] = set()
        policy: Any  # see ANYTHING
        for kind, policy in (
            ("alloc", self._alloc), ("evict", self._evict), ("oom", self._oom), ("cond", self._cond),
        ):  # fmt: skip
            if policy is None:
                continue
            self._running.call = Call(self._process.process_id, kind)
            try:
                keys = heeded_by(policy)
                if keys is None:
                    return []
                heeded |= keys
            except ANYTHING as error:  # a policy may raise anything
                self.raised(kind, "heeded_keys", error)
                return []
            finally:  # this may be called between events
                self._running.call = None
        if ANY_EXTRA in heeded:
            heeded.update(hint.extra)
        return [key for key in policy_keys(hint) if key not in heeded]

    @property
    def single_page(self) -> bool:
        """Whether the alloc policy always brings in the faulting page alone, on any frame."""
        return self._alloc is None or type(self._alloc).single_page is True

    def _ask_oom(self, method: str, fault: Fault) -> object:
        """What the oom policy answers about a fault; _NO_ANSWER if it raises, or there is none."""
        return _NO_ANSWER if self._oom is None else self._ask("oom", self._oom, self._oom_call, method, fault)

    def _ask(self, kind: str, policy: object, call: Call, method: str, *arguments: object) -> object:
        """What a policy answers to a call, which is timed; _NO_ANSWER if it raises."""
        stopwatch = self._state.stopwatch
        started = stopwatch()
        self._running.call = call
        try:
            answer: object = getattr(policy, method)(*arguments)
        except ANYTHING as error:  # a policy may raise anything
            self.raised(kind, method, error)
            return _NO_ANSWER
        self._timed(kind, stopwatch, started)
        return answer

    def out_of_memory(self, fault: Fault) -> int | None:
        """Number of a process that has memory and is to be ended, or None to refuse the fault."""
        answer = self._ask_oom("choose", fault)
        if answer is None or answer is _NO_ANSWER:
            return None
        victim = self._state.processes.get(answer) if type(answer) is int else None
        if victim is None or victim.resident == 0:
            self.record_error("oom", f"choose answered {safe_repr(answer)}, which is not a process with memory")
            return None
        return victim.process_id

    def patience(self, fault: Fault) -> float:
        """Seconds that a refused fault waits for memory before it fails, at most MOST_PATIENCE."""
        answer = self._ask_oom("patience", fault)
        if answer is _NO_ANSWER:
            return 0.0
        if type(answer) in (int, float) and 0 <= answer <= MOST_PATIENCE:  # type: ignore[operator]
            return float(answer)  # type: ignore[arg-type]
        self.record_error("oom", f"patience answered {safe_repr(answer)}; allowed are 0 to {MOST_PATIENCE:g} seconds")
        return 0.0
