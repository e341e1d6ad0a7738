"""`usmctl schema`: every command that writes JSON has a schema."""

import json

import pytest
from jsonschema import Draft202012Validator

from usmd import cli as usmd_cli
from usmd.ctl import cli
from usmd.ctl.schema_command import COMMANDS


def commands(command, name=()):
    """The commands with --format, below one."""
    for word, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*name, word))
    if name and any("--format" in parameter.opts for parameter in command.params):
        yield " ".join(name)


def test_every_command_with_a_format_has_a_schema():
    assert sorted(COMMANDS) == sorted([*commands(cli.program), *commands(usmd_cli.program)])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_schema_of_a_command_is_valid_and_says_whose_it_is(command, capsys):
    assert cli.main(["schema", *command.split()]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert schema["title"].removeprefix("usmctl ").removeprefix("usmd ") == f"{command} --format json"


def test_a_command_that_writes_no_json_is_refused_with_those_that_do(capsys):
    assert cli.main(["schema", "run"]) == 2
    assert "'run' is not a command with --format json; allowed are status, " in capsys.readouterr().err
