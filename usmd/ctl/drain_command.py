"""`usmctl drain`: ends all sessions and the daemon, after a notice if that is asked for, and says who loses memory."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from usmd.ctl.as_json import plain
from usmd.ctl.command import FAILED, connected, show
from usmd.ctl.console import make_console
from usmd.ctl.options import AddressOption, FormatOption
from usmd.ctl.tables import show_table
from usmd.errors import InvalidArgument
from usmd.sizes import format_size
from usmd.text_output import complain, encoding_of, printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

EPILOG = """Examples:

usmctl drain --dry-run

usmctl drain --notice 30s

usmctl drain --yes --grace 30"""
MOST_SECONDS: Final = 86_400
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smh]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def drain(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    notice: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Tell every session first, and end it after TIME: seconds, or 30s, 5m, 1h; at most a day.",
            show_default=False,
        ),
    ] = "0",
    grace: Annotated[
        float, typer.Option(min=0, max=MOST_SECONDS, help="Seconds for running calls; 0: the daemon's setting.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show who would lose memory.")] = False,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """End all sessions and stop the daemon. Shows first who loses memory by that, and asks.

    Memory of usmd ends with its session: MEMORY is what a process has in memory and in swap.

    With --notice sessions go on for so long, and applications that asked for it are told (client.on_draining). No new
    session begins meanwhile. It ends sooner when no session is left. A further drain can only shorten a notice: without
    --notice it ends it.
    """
    seconds = parse_seconds(notice)
    with connected(context, address) as admin:
        if not yes and not dry_run:
            would = admin.drain(grace, seconds, dry_run=True)
            show_losses(make_console(sys.stderr), would)
            when = f" in {round(would.seconds_left, 1):g} s" if would.seconds_left else ""
            _ask(f"Stop usmd at {admin.address}? This ends {_sessions(would.sessions)}{when}.")
        answer = admin.drain(grace, seconds, dry_run=dry_run)
    show(context, output, lambda: plain(answer), lambda console: show_drain(console, answer, dry_run=dry_run))


def parse_seconds(text: str) -> float:
    """Seconds from `30`, `30s`, `5m` or `1h`; raises InvalidArgument."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not 0 <= seconds <= MOST_SECONDS:
        raise InvalidArgument(f"--notice {text!r}; allowed are 0 to {MOST_SECONDS} seconds, for example 30s, 5m or 1h")
    return seconds


def show_drain(console: Console, answer: admin_pb2.DrainResponse, *, dry_run: bool) -> None:
    """Print what a drain does, or would do."""
    count, left = _sessions(answer.sessions), f"{round(answer.seconds_left, 1):g} s"
    if dry_run:
        console.print(f"{count} would end in {left}" if answer.seconds_left else f"{count} would end")
    elif answer.seconds_left:
        console.print(f"usmd takes no new session, and ends {count} in {left}")
    else:
        console.print(f"{count} ended")
    show_losses(console, answer)


def show_losses(console: Console, answer: admin_pb2.DrainResponse) -> None:
    """Print the processes that lose memory, if there are any."""
    if answer.losses:
        rows = [
            (f"{each.process_id}", printable(each.name), f"{each.pid or '-'}", format_size(each.bytes))
            for each in answer.losses
        ]
        show_table(console, (">PROCESS", "NAME", ">PID", ">MEMORY LOST"), rows, "")


def _ask(question: str) -> None:
    """Exit unless the answer is yes.

    The question goes to standard error, so that standard output has only the result.
    """
    sys.stderr.write(f"{printable(question, encoding_of(sys.stderr))} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        complain("usmctl", "not confirmed, so nothing was done; --yes does not ask")
        raise typer.Exit(FAILED)


def _sessions(count: int) -> str:
    return f"{count:,} session" if count == 1 else f"{count:,} sessions"
