"""Help as both programs show it."""

import subprocess
import sys

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


IMPORTS = """
import sys
import usmd.ctl.cli
print(*sys.modules)
import usmd.cli
print(*sys.modules)
"""
NOT_FOR_ALL = ("asyncio", "grpc", "matplotlib", "numpy", "structlog", "textual", "usm_wire.pb", "usmd.mechanism",
               "usmd.policies", "usmd.server.daemon")  # fmt: skip
NOT_FOR_ALL_OF_USMCTL = (*NOT_FOR_ALL, "importlib.metadata", "msgspec", "usmd.config", "usmd.core", "usmd.lab.replay",
                         "usmd.lab.traces.reading", "usmd.swap")  # fmt: skip


def test_what_only_some_commands_need_is_not_imported_at_a_start():
    """Each import here would be waited for at every start: of `usmctl`, then of `usmd`."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=True)
    usmctl, both = (set(line.split()) for line in done.stdout.splitlines())
    assert {name for name in NOT_FOR_ALL_OF_USMCTL if name in usmctl} == set()
    assert {name for name in NOT_FOR_ALL if name in both} == set()
