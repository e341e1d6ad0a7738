"""Which mechanism a configuration gets on this machine, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from usmd.errors import ConfigError
from usmd.mechanism import huge_folios, simulated, uffd, userfaultfd
from usmd.mechanism.base import Mechanism
from usmd.mechanism.simulated import SimulatedMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.mechanism.zeroing import try_out
from usmd.sizes import format_size

AUTO: Final = "auto"
MECHANISMS: Final = (AUTO, simulated.NAME, userfaultfd.NAME)


def why_not_real(offer: uffd.Offer, page_size: int) -> str:
    """Why `userfaultfd` cannot be used with pages of this size, in one line; empty if it can."""
    if page_size % uffd.HARDWARE_PAGE:
        return (
            f"memory.page_size = {format_size(page_size)} is not a multiple of the hardware's "
            f"{format_size(uffd.HARDWARE_PAGE)}"
        )
    return uffd.usable(offer)


def make(
    wanted: str, frames: int, page_size: int, offer: uffd.Offer, clock: Callable[[], float] = time.monotonic
) -> tuple[Mechanism, str]:
    """The mechanism of this name, and for `auto` why it is not real memory (empty if it is).

    Raises ConfigError if `userfaultfd` is asked for and cannot be used, or if the pool cannot be allocated.
    """
    why_not = "" if wanted == simulated.NAME else why_not_real(offer, page_size)
    if wanted == userfaultfd.NAME and why_not:
        raise ConfigError(
            f'memory.mechanism = "{userfaultfd.NAME}" cannot be used: {why_not}; `usmctl doctor` says what to do; '
            f'"{AUTO}" and "{simulated.NAME}" work without it'
        )
    if wanted == simulated.NAME or why_not:
        return SimulatedMemory(frames, page_size), why_not
    return UserfaultfdMemory(page_size, clock, try_out(offer, huge_folios.look())), ""
