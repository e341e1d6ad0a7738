"""Pages that reclaim passes over for a while: they could not be protected, or every swap device refused them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core.frames import DIRTY

if TYPE_CHECKING:
    from usmd.core.state import State

STUCK_SECONDS: Final = 0.1
"""How long a page that could not be protected is passed over."""
REFUSED_SECONDS: Final = 1.0
"""How long a page that every swap device refused is passed over."""
REFUSED_JUST_NOW: Final = 0.1
"""The same if nothing else can be evicted: the page may have changed, so it is tried again before the oom policy."""
MAX_STUCK: Final = 30
"""Failures in a row after which faults no longer wait for pages that cannot be protected."""


class PassedOver:
    """Remembers which victims could not be evicted, and until when they are passed over."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._stuck_until = 0.0
        """Until then, another failure to protect a page counts as the same one."""
        self._stuck_times = 0
        """Failures to protect a page, in a row."""
        self._stuck: dict[int, float] = {}
        """Frame that could not be protected → time at which it is tried again."""
        self._refused: dict[int, float] = {}
        """Page that every swap device refused → time of that."""
        self._forget_at = 0.0
        """Time at which old entries of `_refused` are removed."""

    def __bool__(self) -> bool:
        """Whether any page may be passed over."""
        return bool(self._stuck or self._refused)

    def could_not_protect(self, pfn: int) -> None:
        """The mechanism could not make a victim stable."""
        state = self._state
        until = state.now + STUCK_SECONDS
        if state.now >= self._stuck_until:
            self._stuck_times += 1
            self._stuck_until = until
            self._stuck = {frame: end for frame, end in self._stuck.items() if end > state.now}
        self._stuck[pfn] = until

    def protected(self) -> None:
        """The mechanism made a victim stable."""
        self._stuck_times = 0

    def could_not_store(self, pfn: int) -> None:
        """Every swap device refused the page of a victim."""
        state = self._state
        if state.now >= self._forget_at:
            self._forget_at = state.now + REFUSED_SECONDS
            self._forget_refused(REFUSED_SECONDS)
        self._refused[state.frames.page[pfn]] = state.now

    def try_refused_again(self) -> None:
        """Nothing else can be evicted: pass over only the pages that were refused just now."""
        self._forget_refused(REFUSED_JUST_NOW)

    def _forget_refused(self, age: float) -> None:
        """Forget the pages that were refused more than `age` seconds ago."""
        since = self._state.now - age
        self._refused = {page: at for page, at in self._refused.items() if at > since}

    @property
    def refused_pages(self) -> int:
        """Pages that every swap device refused lately."""
        return len(self._refused)

    @property
    def may_try(self) -> bool:
        """Whether no victim just now failed to be protected."""
        return self._state.now >= self._stuck_until

    @property
    def stuck(self) -> bool:
        """Whether faults should wait, because victims that cannot be protected now may be in a moment."""
        return self._stuck_times < MAX_STUCK and any(map(self._is_stuck, self._stuck))

    def _is_stuck(self, pfn: int) -> bool:
        return self._stuck.get(pfn, 0.0) > self._state.now

    def __contains__(self, pfn: int) -> bool:
        """Whether to pass over a frame: it could not be protected, or every swap device refused its page."""
        if self._is_stuck(pfn):
            return True
        frames = self._state.frames
        refused_at = self._refused.get(frames.page[pfn]) if self._refused else None
        if refused_at is None or not frames.flags[pfn] & DIRTY:
            return False
        return refused_at + REFUSED_SECONDS > self._state.now
