"""Completions of commands, counted by their pages: each page may begin the next eviction or fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from usmd.core import events

PAGES_A_TURN: Final = 64
"""Events and pages of completions, about, that are handled in one turn of the loop. A longer chain of evictions and
fills would delay all other work."""
_PAGES: Final[dict[type[events.Event], Callable[[Any], Sequence[int]]]] = {
    events.Protected: attrgetter("frames"),
    events.SwapInDone: attrgetter("frames"),
    events.SwapOutDone: attrgetter("slots"),
    events.Punched: attrgetter("pages"),
}


def weight(event: events.Event) -> int:
    """What an event takes of PAGES_A_TURN."""
    pages = _PAGES.get(type(event))
    return 1 if pages is None else 1 + len(pages(event))
