"""`usmctl reload`: has the daemon read its configuration again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import typer
from rich.console import Console

from usmd.ctl.command import connected, show
from usmd.ctl.options import AddressOption, FormatOption
from usmd.ctl.tables import PROSE, Cell, show_table
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

EPILOG = """Examples:

usmctl reload

usmd config check /etc/usmd/usmd.toml && usmctl reload

usmctl reload --format json"""


class ChangeDocument(TypedDict):
    """A key for programs, with its values as a file has them."""

    key: str
    before: Any
    after: Any


class ReloadDocument(TypedDict):
    """What a reload did, for programs."""

    applied: list[ChangeDocument]
    needs_restart: list[ChangeDocument]


def reload(context: typer.Context, address: AddressOption = None, output: FormatOption = None) -> None:
    """Have usmd read its configuration again, and show what has changed; SIGHUP does the same.

    What can change while it runs is in force at once: watermarks, limits, default policies and rules for sessions that
    begin from now on, metrics, the log. What cannot is listed with both values, and needs a restart. Flags of `usmd
    serve` still go before the file.

    A configuration with a mistake changes nothing: every mistake is named, and the exit code is 1.
    """
    with connected(context, address) as admin:
        answer = admin.reload()
    show(
        context,
        output,
        lambda: ReloadDocument(applied=_plain(answer.applied), needs_restart=_plain(answer.needs_restart)),
        lambda console: show_reloaded(console, answer),
    )


def show_reloaded(console: Console, answer: admin_pb2.ReloadResponse) -> None:
    """What is in force now, and what is not."""
    if not answer.applied and not answer.needs_restart:
        console.print("the configuration is as it was")
        return
    _show_changes(console, "In force from now on", ("KEY", "BEFORE", "NOW"), answer.applied)
    if answer.applied and answer.needs_restart:
        console.print()
    _show_changes(console, "Needs a restart of usmd", ("KEY", "IN FORCE", "AFTER A RESTART"), answer.needs_restart)


def _show_changes(
    console: Console, title: str, titles: tuple[str, str, str], changes: Sequence[admin_pb2.ConfigChange]
) -> None:
    if changes:
        console.print(title)
        rows: list[tuple[Cell, ...]] = [(each.key, _text(each.before), _text(each.after)) for each in changes]
        show_table(console, titles, rows, "", prose=titles[1:], enough=PROSE)


def _text(value: str) -> str:
    """A value as in the file; - for one that is not set."""
    return "-" if value == "null" else printable(value)


def _plain(changes: Sequence[admin_pb2.ConfigChange]) -> list[ChangeDocument]:
    return [{"key": each.key, "before": json.loads(each.before), "after": json.loads(each.after)} for each in changes]
