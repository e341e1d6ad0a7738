"""Commands: values that cannot change; outcomes without a yield carry token 0."""

import pytest

from usmd.core import commands
from usmd.errors import DataLoss


def test_a_command_is_a_value():
    assert commands.ZeroFill([1, 2], [7, 8]) == commands.ZeroFill([1, 2], [7, 8])
    assert commands.ZeroFill([1, 2], [7, 8]) != commands.ZeroFill([1, 2], [7, 9])
    with pytest.raises(AttributeError):
        commands.ZeroFill([1], [7]).frames = []


def test_an_outcome_that_completes_no_yield_has_token_zero():
    assert commands.Allocated(1, ()).yield_token == 0
    assert commands.Failed(1, DataLoss("gone"), 3).yield_token == 0


def test_an_answer_is_a_command_that_the_caller_of_an_event_gets():
    assert set(commands.Answer.__subclasses__()) == {
        commands.Attached, commands.Mapped, commands.HintSet, commands.Pinned, commands.Accessed,
    }  # fmt: skip
