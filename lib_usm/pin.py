"""A pin keeps pages in memory until it ends."""

from __future__ import annotations

import threading
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

from lib_usm import pins
from lib_usm.arguments import counted
from lib_usm.errors import ClosedError
from lib_usm.region import RegionBytes


class Pin:
    """Made by `Region.pin`, which starts the pin. It ends with a `with` block, `release`, or the region."""

    def __init__(self, region: RegionBytes, first_page: int, page_count: int) -> None:
        self.region = region
        """The region of the pages."""
        self.first_page = first_page
        """First page, counted from the start of the region."""
        self.page_count = page_count
        """Number of pages; 0 for an empty range."""
        self._lock = threading.Lock()
        self._released = False

    @property
    def released(self) -> bool:
        """True after `release`."""
        return self._released

    def release(self) -> None:
        """End the pin; pages that another pin keeps stay. May be called again."""
        with self._lock:
            if self._released:
                return
            self._released = True
        pins.unpin(self.region, self.first_page, self.page_count)

    def __enter__(self) -> Self:
        if self._released:
            raise ClosedError(f"{self!r} has ended; pin the pages again")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        pages = f"{counted(self.page_count, 'page')} from page {self.first_page} on"
        return f"<Pin of {pages} of {self.region!r}{', released' if self._released else ''}>"


class PinAsync:
    """Made by `Region.pin_async`. `await` starts the pin and returns it; `async with` also ends it."""

    def __init__(self, region: RegionBytes, first_page: int, page_count: int) -> None:
        self._region = region
        self._first_page = first_page
        self._page_count = page_count
        self._pin: Pin | None = None

    def __await__(self) -> Generator[Any, Any, Pin]:
        return self._begin().__await__()

    async def _begin(self) -> Pin:
        await pins.pin_async(self._region, self._first_page, self._page_count)
        return Pin(self._region, self._first_page, self._page_count)

    async def __aenter__(self) -> Pin:
        self._pin = await self._begin()
        return self._pin

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pin is not None:
            self._pin.release()
