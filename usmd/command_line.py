"""What the command lines of usmd and usmctl have in common."""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import Any, Final

import typer
import typer.main

HELP_OPTIONS: Final = ("-h", "--help")


class Format(StrEnum):
    """The format of an answer."""

    TABLE = "table"
    JSON = "json"


def built(app: typer.Typer) -> Any:  # noqa: ANN401 - typer does not export the class of its commands
    """All commands of an app. Their docstrings are their help, which shows no type for an option without a value."""
    _take_docstrings(app)
    program = typer.main.get_command(app)
    _show_no_types_of_flags(program)
    return program


def _take_docstrings(app: typer.Typer) -> None:
    for command in app.registered_commands:
        command.help = flowing(command.callback.__doc__ if command.callback else None)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _take_docstrings(group.typer_instance)


def _show_no_types_of_flags(command: Any) -> None:  # noqa: ANN401 - as above
    context = typer.Context(command, help_option_names=list(HELP_OPTIONS))
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for each in getattr(command, "commands", {}).values():
        _show_no_types_of_flags(each)


def flowing(docstring: str | None) -> str:
    """A docstring as help: paragraphs without inner line breaks, so that they fit any terminal."""
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)
