"""What follows when the shell cannot perform a command: how the core is told of it. Logs nothing and performs nothing.

What has a completion fails by it: a page that could not be read is an error to its waiters, one that could not be
written or protected stays in memory. What has none cannot be taken back, because the core has acted on it already; then
the sessions that it was for end with an error, rather than wait for good, or read what is not theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

from usmd.core import commands, events
from usmd.errors import SwapIOError


def completion_of(command: commands.Command, why: str) -> events.Event | None:
    """The failed completion of a command; None for one that has none."""
    match command:
        case commands.Protect():
            return events.Protected(command.ticket, command.frames, [None] * len(command.frames))
        case commands.ReadSlots():
            return events.SwapInDone([page.pfn for page in command.pages], [SwapIOError(why)] * len(command.pages))
        case commands.WriteSlots():
            return events.SwapOutDone([page.slot for page in command.pages], [SwapIOError(why)] * len(command.pages))
    return None


def pages_of(command: commands.Command) -> Sequence[int]:
    """Keys of the pages that a command without a completion is about."""
    match command:
        case commands.ZeroFill() | commands.Release() | commands.Restore() | commands.Wake() | commands.Poison():
            return command.pages
    return ()


def owners_of(command: commands.Command) -> set[int]:
    """Processes that a command names."""
    return {command.process_id} if isinstance(command, commands.Outcomes) else set()
