"""`usmctl schema`: the JSON schema of what a command writes with `--format json`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from usmd.ctl import completion
from usmd.ctl.as_json import write_document
from usmd.errors import InvalidArgument

if TYPE_CHECKING:
    from usmd.ctl.json_schema import Schema

EPILOG = """Examples:

usmctl schema status

usmctl schema policy set

usmctl schema config check"""

COMMANDS: Final = (
    "status",
    "processes",
    "regions",
    "policies",
    "policy set",
    "limit",
    "limits",
    "swap add",
    "swap retire",
    "swap",
    "hints",
    "map",
    "explain",
    "record",
    "shadow",
    "replay",
    "watch",
    "top",
    "debug validate",
    "debug replay-events",
    "reload",
    "drain",
    "doctor",
    "config check",
    "config show",
)
"""Those with --format json. The last two are of usmd."""


def schema(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            help=f"One of: {', '.join(COMMANDS)}. The last two are of usmd, all others of usmctl.",
            show_default=False,
            autocompletion=completion.one_of(COMMANDS),
        ),
    ],
) -> None:
    """Print the JSON schema (draft 2020-12) of what a command writes with --format json.

    The schema is made from the types of this version, and has every field. watch, shadow and map --watch write a
    document a line, and all others one. Needs no daemon.
    """
    write_document(schema_for(" ".join(words)), sys.stdout)


def schema_for(command: str) -> Schema:
    """The schema of a command; raises InvalidArgument for one that writes no JSON."""
    from usmd.ctl.documents import DOCUMENTS  # imports what each command writes
    from usmd.ctl.json_schema import schema_of

    documents = DOCUMENTS.get(command)
    if documents is None:
        raise InvalidArgument(f"{command!r} is not a command with --format json; allowed are {', '.join(COMMANDS)}")
    return schema_of(f"{'usmd' if command.startswith('config ') else 'usmctl'} {command} --format json", documents)
