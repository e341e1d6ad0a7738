"""The options that all commands share: which format an answer is written in."""

from types import SimpleNamespace

import pytest

from usmd.command_line import Format
from usmd.ctl.options import Shared, chosen_format, listed


@pytest.mark.parametrize(
    ("before", "own", "expected"),
    [
        (None, None, Format.TABLE),
        (Format.JSON, None, Format.JSON),
        (None, Format.JSON, Format.JSON),
        (Format.JSON, Format.TABLE, Format.TABLE),
    ],
)
def test_the_command_s_own_format_wins_over_the_one_before_it_and_a_table_is_the_default(before, own, expected):
    assert chosen_format(SimpleNamespace(obj=Shared(None, before)), own) is expected


@pytest.mark.parametrize(
    ("values", "text"), [(None, "a,b"), (["x"], "x"), (["x,y", "z"], "x,y,z"), (["f(a=1, b=2)", "y"], "f(a=1, b=2),y")]
)
def test_a_list_may_be_given_at_once_or_one_by_one(values, text):
    assert listed(values, "a,b") == text
