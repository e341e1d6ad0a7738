"""The fence around a conditional policy: what it is notified of, and what it requests, as far as that is numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from usmd.core.fence import ANYTHING, Fence
from usmd.core.policy import ConditionalPolicy, Requests
from usmd.safe_repr import safe_repr


class CondFence(Fence):
    """The conditional policy of a process, if it has one.

    `on_swapped` and `on_returned` are its `page_swapped` and `page_returned` where it has them, else None.
    """

    _cond: ConditionalPolicy | None
    on_swapped: Callable[[int, int], None] | None
    on_returned: Callable[[int], None] | None

    def _use_cond(self, policy: ConditionalPolicy | None) -> None:
        self._cond = policy
        self.on_swapped = self.on_returned = None
        if policy is not None:
            self._running.call = self._cond_call
            try:
                if type(policy).page_swapped is not ConditionalPolicy.page_swapped:
                    self.on_swapped = policy.page_swapped
                if type(policy).page_returned is not ConditionalPolicy.page_returned:
                    self.on_returned = policy.page_returned
            except ANYTHING as error:  # a policy may raise anything
                self.raised("cond", "it", error, " when it was asked what it hears")
            state = self._state
            state.background_at = min(state.background_at, state.now + state.settings.cond_interval)

    def page_swapped(self, page: int, device: int) -> None:
        """Tell the conditional policy, if it listens, of a page that is on a swap device now."""
        if self.on_swapped is not None:
            self._running.call = self._cond_call
            try:
                self.on_swapped(page, device)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("cond", "page_swapped", error)

    def page_returned(self, page: int) -> None:
        """Tell the conditional policy, if it listens, of a page that is no longer to be requested."""
        if self.on_returned is not None:
            self._running.call = self._cond_call
            try:
                self.on_returned(page)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("cond", "page_returned", error)

    @property
    def conditional(self) -> bool:
        """Whether there is a conditional policy."""
        return self._cond is not None

    def turn(self, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """What the conditional policy requests: pages to trim, to bring back, and to move to a device, each a number.

        At most `limit` of each kind; what they say of pages and devices is for the caller to check.
        """
        if self._cond is None:
            return 0, [], []
        stopwatch = self._state.stopwatch
        started = stopwatch()
        self._running.call = self._cond_call
        try:
            answer = self._read(self._cond.turn(), limit)
        except ANYTHING as error:  # a policy may raise anything
            self.raised("cond", "turn", error)
            return 0, [], []
        self._timed("cond", stopwatch, started)
        return answer

    def _read(self, requests: object, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """The requests that are numbers; each that is none is an error. Looks at the first `limit` of each kind."""
        if not isinstance(requests, Requests):
            if requests is not None:
                self.record_error("cond", f"turn returned {safe_repr(requests)}, which is no Requests")
            return 0, [], []
        trim: object = requests.trim
        if type(trim) is not int or trim < 0:
            self.record_error("cond", f"turn requested to trim {safe_repr(trim)} pages")
            trim = 0
        swap_in: list[int] = []
        named: Iterable[object] = requests.swap_in
        for page in islice(named, limit):
            if type(page) is int:
                swap_in.append(page)
            else:
                self.record_error("cond", f"turn requested {safe_repr(page)} swapped in, which is no page")
        demote: list[tuple[int, int]] = []
        named = requests.demote
        for pair in islice(named, limit):
            if type(pair) is tuple and len(pair) == 2 and type(pair[0]) is type(pair[1]) is int:
                demote.append(pair)
            else:
                self.record_error("cond", f"turn requested {safe_repr(pair)} demoted, which is no page and device")
        return min(trim, limit), swap_in, demote
