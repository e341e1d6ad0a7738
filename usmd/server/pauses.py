"""Long lists in parts: other work of the loop has its turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

ITEMS_A_PART: Final = 128
"""Items of a list that one turn of the loop answers with, each some microseconds."""
_T = TypeVar("_T")


async def in_parts(
    items: Iterable[_T], most: int = ITEMS_A_PART, cost: Callable[[_T], int] = lambda _item: 1
) -> AsyncIterator[_T]:
    """Yield items, and let the loop have its turn after those that together cost `most`.

    What the items tell of goes on meanwhile: an item may be gone when its part comes.
    """
    done = 0
    for item in items:
        yield item
        done += cost(item)
        if done >= most:
            done = 0
            await asyncio.sleep(0)
