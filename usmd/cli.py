"""The command line of the daemon: `usmd serve`, and `usmd config`, which needs no daemon.

Exit codes: 0 after a drain, 2 for an unusable configuration, 3 if another daemon serves the socket.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated, Final

import typer

from usm_wire.places import runtime_folder
from usmd import config_command, standard_streams
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
from usmd.command_line import HELP_OPTIONS, built
from usmd.config import Config
from usmd.config_source import Source
from usmd.errors import AlreadyRunning, ConfigError, InvalidArgument, SwapDeviceError, UsmdError
from usmd.runtime_paths import prepare_folder
from usmd.server.signals import Signals, ignore_all
from usmd.text_output import complain, use_escapes
from usmd.version import VERSION

EXIT_CONFIG = 2
EXIT_ALREADY_RUNNING = 3

app = typer.Typer(
    name="usmd",
    epilog="Operators' commands are in [bold]usmctl[/bold]; begin with [bold]usmctl status[/bold].",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": list(HELP_OPTIONS)},
)

_OWN_PROCESS: Final = ContextVar("own_process", default=False)
"""Whether the process ends with the program, as it does with `main`, but not where a command is called alone."""
_EXAMPLES = """[bold]Examples[/bold]

Serve 64 MiB on defaults, in your runtime folder:  [bold]usmd serve[/bold]

More memory, one swap device in memory and one in a file:
[bold]usmd serve --memory 1GiB --swap memory:2GiB --swap file:/var/lib/usmd/swap0:8GiB[/bold]

As a service, from a file, with one setting changed:
[bold]usmd serve --config /etc/usmd/usmd.toml --evict lru[/bold]

With a policy of your own, from a file:  [bold]usmd serve --evict './cflru.py:CleanFirstLru(window=256)'[/bold]

Sizes are written 4096, 4KiB, 64MiB, 1GiB, or 4K, 64M, 1G: all are powers of 1,024.

Ctrl-C or SIGTERM ends the sessions, stops usmd, and removes what it created.

Exit codes: 0 after that, 2 for a configuration that cannot be used, 3 if another daemon serves the socket.
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usmd {VERSION}")
        raise typer.Exit


@app.callback()
def usmd(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, metavar=" ", help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Own memory in user space: frames, swap devices, and the policies that govern them."""


@app.command(epilog=_EXAMPLES)
def serve(
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
) -> None:
    """Own memory and serve it to applications, until SIGTERM or SIGINT."""
    given = dict(locals())
    try:
        source = source_of(given)
        code = _run(source.load(), source)
    except (InvalidArgument, SwapDeviceError) as error:
        raise _complaint(error, EXIT_CONFIG) from error
    except AlreadyRunning as error:
        raise _complaint(error, EXIT_ALREADY_RUNNING) from error
    raise typer.Exit(code)


def _run(config: Config, source: Source) -> int:
    """Prepare the log and the runtime folder, serve, and return the exit code."""
    from usmd import log  # structlog, which `--help` and `usmd config` do without

    standard_streams.never_block()
    log.configure(config.server.log_format, level=config.server.log_level)
    server = config.server
    if runtime_folder() in (server.socket.parent, server.admin_socket.parent, server.state_dir):
        prepare_folder(runtime_folder())
    with Signals(to_the_end=_OWN_PROCESS.get()) as signals:
        # Imported here, because grpc must not be imported before the log is configured, and `--help` needs none of it.
        from usmd.server.daemon import serve as serve_until_stopped

        return serve_until_stopped(config, signals, source)


def _complaint(error: UsmdError, code: int) -> typer.Exit:
    """Print the error on stderr in one line; the caller raises the exit."""
    more = len(error.others) if isinstance(error, ConfigError) else 0
    also = f" (and {more} more: `usmd config check FILE` names them all)" if more else ""
    complain("usmd", " ".join(str(error).split()) + also)
    return typer.Exit(code)


app.add_typer(config_command.app, name="config")

program = built(app)
"""All commands, built once: each call of `app` would build them again."""


def main() -> None:
    """Entry point of `usmd`."""
    standard_streams.open_missing()
    use_escapes()
    before = _OWN_PROCESS.set(True)
    try:
        program()
    finally:
        _OWN_PROCESS.reset(before)
        ignore_all()
