"""Long lists in parts: other work of the loop has its turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

ITEMS_A_PART: Final = 128
"""Items handled in one turn of the loop, each in some microseconds."""
_T = TypeVar("_T")


async def in_parts(
    items: Iterable[_T], most: int = ITEMS_A_PART, cost: Callable[[_T], int] = lambda _item: 1
) -> AsyncIterator[_T]:
    """Yield items, and let the loop have its turn after those that together cost `most`.

    The daemon serves meanwhile: an item may be gone by its turn.
    """
    done = 0
    for item in items:
        yield item
        done += cost(item)
        if done >= most:
            done = 0
            await asyncio.sleep(0)
