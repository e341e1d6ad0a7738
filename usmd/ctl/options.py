"""Options of every command of usmctl, and those given before the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import typer.models

from usmd.command_line import Format
from usmd.ctl import completion
from usmd.ctl.address import ADDRESS_VARIABLE
from usmd.ctl.tables import Column


@dataclass(frozen=True)
class Shared:
    """Options given before the command; the command's own take precedence."""

    address: str | None
    output: Format | None


def listed(values: Sequence[str] | None, default: str = "") -> str:
    """The comma-separated values of an option that may also be repeated."""
    return default if values is None else ",".join(values)


def sort_option(columns: Sequence[Column[Any]]) -> typer.models.OptionInfo:
    """The option `--sort` of a list with these columns."""
    names = [column.name for column in columns]
    option: typer.models.OptionInfo = typer.Option(
        "--sort",
        metavar="COLUMN",
        help=f"Order of the lines: {', '.join(names)}. Numbers from the largest, text from A; -COLUMN reverses it.",
        show_default=False,
        autocompletion=completion.one_of(names),
    )
    return option


ProcessFilter = Annotated[
    str | None,
    typer.Argument(
        metavar="PROCESS",
        help="Number or name of a process; default: all.",
        show_default=False,
        autocompletion=completion.processes,
    ),
]
ProcessArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROCESS",
        help="Number or name of a process, as `usmctl processes` lists them (ID, NAME); or 1 for the first that "
        "attached since the daemon's start, 2 for the second (NTH).",
        show_default=False,
        autocompletion=completion.processes,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="unix:PATH", help=f"Admin socket of usmd; default: ${ADDRESS_VARIABLE}, else the "
                 "user's own daemon."),
]  # fmt: skip
FormatOption = Annotated[Format | None, typer.Option("--format", help="table for people (default), json for programs.")]


def chosen_format(context: typer.Context, output: Format | None) -> Format:
    """The format: the command's own option, else the one given before the command, else a table."""
    return output or context.obj.output or Format.TABLE
