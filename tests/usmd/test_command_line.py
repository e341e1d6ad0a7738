"""Help as both programs show it."""

import pytest

from usmd import cli
from usmd.command_line import flowing
from usmd.ctl import cli as ctl_cli


def with_subcommands(command, names=()):
    yield names
    for name, each in getattr(command, "commands", {}).items():
        yield from with_subcommands(each, (*names, name))


EVERY = [
    pytest.param(program, names, id=" ".join((name, *names)))
    for name, program in (("usmd", cli.program), ("usmctl", ctl_cli.program))
    for names in with_subcommands(program)
]


@pytest.mark.parametrize(("program", "names"), EVERY)
def test_no_option_without_a_value_has_a_type(program, names, capsys):
    program([*names, "-h"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "--help" in shown
    assert "bool" not in shown


def test_help_flows_in_paragraphs():
    text = """One line.

    Two lines
    of a paragraph.
    """
    assert flowing(text) == "One line.\n\nTwo lines of a paragraph."
    assert flowing(None) == ""
