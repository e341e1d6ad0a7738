"""The event with which replays and shadows touch pages. Only `InstantCore` handles it."""

from __future__ import annotations

from collections.abc import Sequence

from usmd.core.events import Event


class Touches(Event, frozen=True):
    """A run of touches of pages of one region, in order.

    `pages`: their numbers, which are in range. `writes`: one byte a touch, 1 for a write; empty: all are reads.
    `times`: one time a touch, in seconds; empty: all have the event's time. `first`: number of the first touch, counted
    since the start.
    """

    process_id: int
    region_id: int
    pages: Sequence[int]
    writes: bytes = b""
    times: Sequence[float] = ()
    first: int = 0
