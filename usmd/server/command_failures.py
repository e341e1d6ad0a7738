"""How a command that the shell cannot perform fails.

A command with a completion fails by it: if a page cannot be read, its waiters get an error; if it cannot be written or
protected, it stays in memory. A command without one cannot be undone, because the core has already acted on it. So its
sessions end with an error: else they could wait for ever, or read bytes that are not theirs.
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
    """Keys of the pages of a command without a completion."""
    match command:
        case (
            commands.ZeroFill()
            | commands.Release()
            | commands.Restore()
            | commands.MapAgain()
            | commands.Wake()
            | commands.Poison()
        ):
            return command.pages
    return ()


def owners_of(command: commands.Command) -> set[int]:
    """Processes that a command names."""
    return {command.process_id} if isinstance(command, commands.Outcomes | commands.FaultsFit) else set()
