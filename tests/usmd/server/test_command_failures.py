"""Every command that the shell can fail to perform has something that the core hears instead."""

import msgspec
import pytest

from usmd.core import commands, events
from usmd.core.commands import SlotPage
from usmd.errors import SwapIOError
from usmd.server.command_failures import completion_of, owners_of, pages_of

PAGES = [SlotPage(5, 3, 1, 1 << 32, 1), SlotPage(6, 4, 1, 1 << 32 | 1, 1)]
BASES = {commands.Command, commands.Answer}
WITHOUT_HARM = {
    commands.Attached, commands.Mapped, commands.HintSet, commands.Pinned, commands.Accessed,  # answers
    commands.RegionsGone, commands.DiscardSlots, commands.Ended,  # what they are about is gone in any case
    commands.Notice, commands.GoOn, commands.HintApplied, commands.Discarded,
    commands.Sample,  # nothing but hearing of touches depends on it
    commands.RetirementEnded,  # an empty device that is not closed takes nothing
}  # fmt: skip


def test_what_has_a_completion_fails_by_it():
    assert completion_of(commands.Protect(9, [3, 4], [0, 1]), "why") == events.Protected(9, [3, 4], [None, None])
    read = completion_of(commands.ReadSlots(PAGES), "why")
    assert (read.frames, [str(error) for error in read.errors]) == ([3, 4], ["why", "why"])
    written = completion_of(commands.WriteSlots(PAGES), "why")
    assert (written.slots, {type(error) for error in written.errors}) == ([5, 6], {SwapIOError})


@pytest.mark.parametrize(
    "command",
    [
        commands.ZeroFill([1], [7]), commands.Release([7]), commands.Restore([7], [True]), commands.Wake([7]),
        commands.Poison([7], [""]), commands.MapAgain([7], [True]),
    ],
    ids=lambda command: type(command).__name__,
)  # fmt: skip
def test_what_has_none_names_its_pages(command):
    assert completion_of(command, "why") is None
    assert list(pages_of(command)) == [7]


def test_what_a_process_waits_for_names_it():
    assert owners_of(commands.Outcomes(4, [])) == owners_of(commands.FaultsFit(4)) == {4}


def test_no_command_is_forgotten():
    handled = {
        commands.Protect, commands.ReadSlots, commands.WriteSlots, commands.ZeroFill, commands.Release,
        commands.Restore, commands.MapAgain, commands.Wake, commands.Poison, commands.Outcomes, commands.FaultsFit,
    }  # fmt: skip
    every = {
        each
        for each in vars(commands).values()
        if isinstance(each, type) and issubclass(each, commands.Command) and each not in BASES
    }
    assert every == handled | WITHOUT_HARM
    assert all(issubclass(each, msgspec.Struct) for each in every)
