"""Tells the log when the parts of a mirror are no longer in step, and when they are again."""

from __future__ import annotations

from typing import Final

from usmd import log
from usmd.swap.mirror import MirrorSwapDevice

PATIENCE: Final = 1.0
"""Seconds for which a far part that answers may lack pages before the log hears of it: a burst of writes is no news."""


class MirrorWatch:
    """Watches one mirror. Times are seconds of the caller's clock."""

    def __init__(self, device: MirrorSwapDevice) -> None:
        self._device = device
        self._since: float | None = None
        """When it was first seen not to be in step."""
        self._told = False

    def look(self, now: float) -> None:
        """See how the mirror stands."""
        status = self._device.status()
        if status.in_step:
            if self._told and self._since is not None:
                seconds = round(now - self._since, 1)
                log.event("mirror_in_step", device=self._device.name, seconds=seconds, repaired=status.repaired)
            self._since = None
            self._told = False
            return
        if self._since is None:
            self._since = now
        if not self._told and (status.away or now - self._since >= PATIENCE):
            self._told = True
            why = status.why or "the far part is slower than the writes, or a part has lost pages"
            log.event("mirror_degraded", device=self._device.name, pages=status.to_repair, reason=why)
