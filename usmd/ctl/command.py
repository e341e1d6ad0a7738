"""What the commands of usmctl have in common: the connection, the two ways of writing an answer, and Ctrl-C."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
from google.protobuf.message import Message
from rich.console import Console

from usmd.ctl.as_json import plain, write_document
from usmd.ctl.connect import Admin, admin_socket
from usmd.ctl.console import make_console
from usmd.ctl.options import Format, chosen_format

FAILED = 1
"""Exit code of what cannot be done, as against a mistake in the command line."""


@contextmanager
def connected(context: typer.Context, address: str | None) -> Iterator[Admin]:
    """The connection to the daemon at `address`, else at the one given before the command, else at the default."""
    with Admin(admin_socket(address or context.obj.address)) as admin:
        yield admin


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C is how an endless command is meant to end."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit from None


def show(
    context: typer.Context,
    output: Format | None,
    as_json: Callable[[], dict[str, object]],
    as_table: Callable[[Console], None],
) -> None:
    """Write an answer in the format that is asked for."""
    if chosen_format(context, output) is Format.JSON:
        write_document(as_json(), sys.stdout)
    else:
        as_table(make_console())


def flowing(docstring: str | None) -> str:
    """A docstring as help: its paragraphs without the line breaks inside them, so that they fit any terminal."""
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def listed(name: str, messages: Sequence[Message]) -> dict[str, object]:
    """Messages as a document with one list."""
    return {name: [plain(message) for message in messages]}
