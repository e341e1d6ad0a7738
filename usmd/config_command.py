"""`usmd config`: says what a configuration is worth before the daemon gets it, and where each value comes from.

Exit codes: 0 it can be used, 2 it cannot. No daemon is needed, and no device or socket is opened; policies are made on
trial, so a policy from a file runs its own code.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from usmd.cli_options import (
    AdminSocketOption,
    AllocOption,
    CondOption,
    ConfigOption,
    EvictOption,
    FaultWakeupOption,
    LogFormatOption,
    LogLevelOption,
    MechanismOption,
    MemoryOption,
    MetricsListenOption,
    NoUvloopOption,
    OomOption,
    PageListenOption,
    PageSizeOption,
    SocketOption,
    StateDirOption,
    SwapOption,
    TraceEventsOption,
    source_of,
)
from usmd.command_line import Format
from usmd.config_source import Problem, Setting, Source
from usmd.errors import ConfigError
from usmd.text_output import encoding_of, printable, to_json

UNUSABLE: Final = 2
"""Exit code for a configuration that cannot be used."""
PIPE_WIDTH: Final = 10_000

app = typer.Typer(
    help="Check a configuration, or show which values are in force.",
    epilog="Examples: usmd config check /etc/usmd/usmd.toml; usmd config show --config /etc/usmd/usmd.toml",
    no_args_is_help=True,
)

_CHECK_EPILOG = """Examples:

Before a start or a reload:  [bold]usmd config check /etc/usmd/usmd.toml && systemctl reload usmd[/bold]

In a script:  [bold]usmd config check --format json usmd.toml | jq -r '.problems[].message'[/bold]

Exit code: 0 it can be used, 2 it cannot.
"""
_SHOW_EPILOG = """Examples:

What `usmd serve` would do here without a file:  [bold]usmd config show[/bold]

What it does as a service:  [bold]usmd config show --config /etc/usmd/usmd.toml[/bold]

What a flag changes:  [bold]usmd config show --config usmd.toml --memory 1GiB --format json[/bold]

Exit code: 0, or 2 if it cannot be used.
"""


class ProblemDocument(TypedDict):
    """A mistake for programs; null: not known."""

    message: str
    key: str | None
    line: int | None


class CheckDocument(TypedDict):
    """What `usmd config check` found, for programs."""

    file: str
    usable: bool
    problems: list[ProblemDocument]


class SettingDocument(TypedDict):
    """A value in force for programs; `place` null: a default."""

    key: str
    value: Any
    origin: str
    place: str | None


class ShowDocument(TypedDict):
    """What `usmd config show` found, for programs."""

    settings: list[SettingDocument]


FormatOption = Annotated[
    Format, typer.Option("--format", metavar="table|json", help="table (default) for people, json for programs.")
]


@app.command(epilog=_CHECK_EPILOG)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The configuration.", show_default=False)],
    output: FormatOption = Format.TABLE,
) -> None:
    """Check a configuration: every key and value, devices that conflict, policies that do not exist.

    Each problem is on one line, with the file, the line where it is known, the key, and what is allowed. Nothing is
    opened or changed, so a path that cannot be written, or a port that is taken, is found by the start alone.
    """
    # Imported here, because other commands need no policies, and they take a while to be imported.
    from usmd.core.running import Running
    from usmd.server.policy_check import check_policies

    problems = Source(file).problems(lambda rules, names: check_policies(rules, names, Running()))
    if output is Format.JSON:
        found = [ProblemDocument(message=each.message, key=each.key or None, line=each.line) for each in problems]
        _write_json(CheckDocument(file=str(file), usable=not problems, problems=found))
    else:
        for problem in problems:
            _write(_line(file, problem))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        _write(f"{count}: usmd does not start with this file, nor reload it" if problems else f"{file} can be used")
    raise typer.Exit(UNUSABLE if problems else 0)


@app.command("show", epilog=_SHOW_EPILOG)
def show_(
    config: ConfigOption = None,
    socket: SocketOption = None,
    admin_socket: AdminSocketOption = None,
    state_dir: StateDirOption = None,
    memory: MemoryOption = None,
    page_size: PageSizeOption = None,
    swap: SwapOption = None,
    mechanism: MechanismOption = None,
    fault_wakeup: FaultWakeupOption = None,
    alloc: AllocOption = None,
    evict: EvictOption = None,
    oom: OomOption = None,
    cond: CondOption = None,
    no_uvloop: NoUvloopOption = False,
    trace_events: TraceEventsOption = None,
    metrics_listen: MetricsListenOption = None,
    page_listen: PageListenOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show every value that usmd would use, and where it comes from.

    FROM is `default`, a line of the file, a variable of the environment, or a flag, which goes before the file. A
    running daemon may use a file as it was before: `usmctl reload` has it read again.
    """
    given = dict(locals())
    try:
        settings = source_of(given).settings()
    except ConfigError as error:
        for each in error.all:
            sys.stderr.write(f"usmd: {printable(str(each), encoding_of(sys.stderr))}\n")
        raise typer.Exit(UNUSABLE) from error
    if output is Format.JSON:
        _write_json(
            ShowDocument(
                settings=[
                    SettingDocument(key=each.key, value=each.value, origin=each.origin, place=each.place or None)
                    for each in settings
                ]
            )
        )
    else:
        _show_table(settings)


def _line(file: Path, problem: Problem) -> str:
    place = str(file) if problem.line is None else f"{file}:{problem.line}"
    return f"{place}: {' '.join(problem.message.split())}"


def _show_table(settings: list[Setting]) -> None:
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    lines = io.StringIO()
    console = Console(file=lines, width=width, highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("KEY", "VALUE", "FROM"):
        table.add_column(title, overflow="fold", no_wrap=title == "KEY")
    for each in settings:
        table.add_row(Text(each.key), Text(printable(_text(each.value))), Text(printable(each.place or each.origin)))
    console.print(table)
    for line in lines.getvalue().splitlines():
        _write(line.rstrip())


def _text(value: object) -> str:
    """A value as TOML has it; - for one that is not set."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_text(each)}' for name, each in value.items())}}}"
    return to_json(value) if isinstance(value, str | bool | list) else str(value)


def _write(text: str) -> None:
    sys.stdout.write(f"{printable(text)}\n")


def _write_json(document: object) -> None:
    sys.stdout.write(to_json(document, encoding_of(sys.stdout), indent=2) + "\n")
