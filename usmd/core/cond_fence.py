"""The fence around a conditional policy: notifies it of pages, and reads the requests that it makes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from msgspec.structs import astuple

from usmd.core.fence import ANYTHING, Fence
from usmd.core.policy import ConditionalPolicy, Requests
from usmd.safe_repr import safe_repr


class CondFence(Fence):
    """Calls the conditional policy of a process, if there is one.

    `on_swapped` and `on_returned`: the policy's `page_swapped` and `page_returned` if it defines them, else None.
    `promotes`: what the policy says.
    """

    _cond: ConditionalPolicy | None
    on_swapped: Callable[[int, int], None] | None
    on_returned: Callable[[int], None] | None
    promotes: bool

    def _use_cond(self, policy: ConditionalPolicy | None) -> None:
        self._cond = policy
        self.on_swapped = self.on_returned = None
        self.promotes = False
        if policy is not None:
            self._running.call = self._cond_call
            try:
                if type(policy).page_swapped is not ConditionalPolicy.page_swapped:
                    self.on_swapped = policy.page_swapped
                if type(policy).page_returned is not ConditionalPolicy.page_returned:
                    self.on_returned = policy.page_returned
                self.promotes = policy.promotes is True
            except ANYTHING as error:  # a policy may raise anything
                self.raised("cond", "it", error, " when asked which calls it handles")
            state = self._state
            state.background_at = min(state.background_at, state.now + state.settings.cond_interval)
            state.more_to_do = True

    def page_swapped(self, page: int, device: int) -> None:
        """Notify the conditional policy, if it listens, that a page is on a swap device."""
        if self.on_swapped is not None:
            self._running.call = self._cond_call
            try:
                self.on_swapped(page, device)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("cond", "page_swapped", error)

    def page_returned(self, page: int) -> None:
        """Notify the conditional policy, if it listens, that it may no longer request a page."""
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
        """The requests of the conditional policy: how many pages to trim, pages to bring back, (page, device) pairs.

        At most `limit` of each kind. All are ints; the caller checks the pages and devices that they name.
        """
        policy: Any = self._cond  # see ANYTHING
        if policy is None:
            return 0, [], []
        stopwatch = self._state.stopwatch
        started = stopwatch()
        self._running.call = self._cond_call
        try:
            answer = self._read(policy.turn(), limit)
        except ANYTHING as error:  # a policy may raise anything
            self.raised("cond", "turn", error)
            return 0, [], []
        self._timed("cond", stopwatch, started)
        return answer

    def _read(self, requests: object, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """The first `limit` requests of each kind that are ints; any other is an error of the policy."""
        if not isinstance(requests, Requests):
            if requests is not None:
                self.record_error("cond", f"turn returned {safe_repr(requests)}, which is not a Requests")
            return 0, [], []
        trim, pages, moves = astuple(requests)  # of any type, whatever their annotations say
        if type(trim) is not int or trim < 0:
            self.record_error("cond", f"turn requested to trim {safe_repr(trim)} pages")
            trim = 0
        swap_in: list[int] = []
        for page in islice(pages, limit):
            if type(page) is int:
                swap_in.append(page)
            else:
                self.record_error("cond", f"turn requested {safe_repr(page)} swapped in, which is not a page")
        demote: list[tuple[int, int]] = []
        for pair in islice(moves, limit):
            if type(pair) is tuple and len(pair) == 2 and type(pair[0]) is type(pair[1]) is int:
                demote.append(pair)
            else:
                self.record_error("cond", f"turn requested {safe_repr(pair)} demoted, which is not a page and a device")
        return min(trim, limit), swap_in, demote
