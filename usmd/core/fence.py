"""The fence around policies: exceptions and invalid answers of a policy are counted and harm nothing."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from usmd.core.blame import Blame
from usmd.core.hints import MAX_HINT_BYTES
from usmd.core.policy import Policy
from usmd.core.policy_set import PolicySet
from usmd.core.running import Call, PolicyHung
from usmd.core.view import MemoryView
from usmd.errors import EndsRun, UsmdError
from usmd.safe_repr import contexts, safe_repr, type_name
from usmd.safe_repr import place as place_of

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.state import State

_P = TypeVar("_P", bound=Policy)


ANYTHING: Final = BaseException
"""What a policy may raise without harming the daemon. It may also answer anything: a call whose answer counts is made
through a variable of type Any, else compiled code would look at the answer's type before the fence does.

Every handler must call `record_error`, which re-raises exceptions that are not the policy's fault.
"""


_MAX_KEYS: Final = 1024
"""Hint keys that are read from one policy at most."""


def _hung(error: BaseException | None) -> bool:
    """Whether an exception is PolicyHung, or was raised while that was handled."""
    return any(isinstance(each, PolicyHung) for each in contexts(error))


def _is_reported(count: int) -> bool:
    """Whether to report this count: the 1st, 2nd, 4th, 8th … are."""
    return count & (count - 1) == 0


def place(error: BaseException) -> str:
    """Where a policy raised an exception, for a message; empty for PolicyHung, which a watch raises."""
    return "" if isinstance(error, PolicyHung) else place_of(error)


class Fence(PolicySet):
    """The part of the fence that all kinds of policies of one process share.

    `specifications`: the text that each policy was made from, by kind. `blame`: their errors. A policy that made too
    many errors, or hung, is put in `blame.misbehaving` and replaced between events.
    """

    def __init__(self, state: State, process: Process, specifications: dict[str, str]) -> None:
        self._state = state
        self._process = process
        self.specifications = dict(specifications)
        self.blame = Blame(specifications)
        self._slow = state.settings.policy_slow_seconds
        self._running = state.running
        number = process.process_id
        self._alloc_call, self._oom_call = Call(number, "alloc"), Call(number, "oom")
        self.evict_call, self._cond_call = Call(number, "evict"), Call(number, "cond")
        """Marks of calls; callers of `on_access` use `evict_call` as well."""

    @abstractmethod
    def _stop_using(self, kind: str) -> None:
        """Call the policy of a kind no more."""

    def _make(self, kind: str, base: type[_P], view: MemoryView) -> _P | None:
        self._running.call = Call(self._process.process_id, kind)
        try:
            policy = self._state.make_policy(kind, self.specifications[kind], view)
        except UsmdError:
            raise
        except ANYTHING as error:  # a policy's constructor may raise anything
            self.raised(kind, "its constructor", error)
            return None
        if not isinstance(policy, base):
            self.record_error(kind, f"it is a {type_name(policy)}, not a {base.__name__}")
            return None
        return policy

    def raised(self, kind: str, what: str, error: BaseException, when: str = "") -> None:
        """Record the exception that ended a call of a policy. A handler calls this before anything else.

        It clears the mark first, so a watch interrupts nothing from then on.
        """
        self._running.call = None
        self.record_error(kind, f"{what} raised {safe_repr(error)}{place(error)}{when}")

    def record_error(self, kind: str, what: str) -> None:
        """Count and report an error of a policy. A policy that hung is called no more.

        Re-raises the exception being handled, if there is one and it is not the policy's fault.
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
        count = self.blame.errors[kind]
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
            self._state.more_to_do = True

    def _timed(self, kind: str, stopwatch: Callable[[], float], started: float) -> None:
        """Report a call that took long, unless `stopwatch` cannot tell that the policy itself was slow."""
        took = stopwatch() - started
        if took > self._slow and self._state.tells_slowness(stopwatch):
            self._process.counters.policy_slow_calls += 1
            self.blame.slow[kind] += 1
            count = self.blame.slow[kind]
            if _is_reported(count):
                self._state.notice("policy_slow", *self._told(kind, f"a call took {took * 1000:.0f} ms", count))


def heeded_by(policy: Policy) -> set[str] | None:
    """The hint keys that a policy says it acts on, whatever it answers; None if it does not say. Raises ANYTHING."""
    asked: Any = policy  # see ANYTHING
    keys = asked.heeded_keys()
    if keys is None:
        return None
    return {key[:MAX_HINT_BYTES].upper() for key in islice(keys, _MAX_KEYS) if isinstance(key, str)}
