"""The command line of the daemon: `usmd serve`.

Exit codes: 0 after a drain, 2 for an unusable configuration, 3 if another daemon serves the socket.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usm_wire.places import runtime_folder
from usmd import log, standard_streams
from usmd.command_line import HELP_OPTIONS, built
from usmd.config import Config, MemoryConfig, load
from usmd.errors import AlreadyRunning, InvalidArgument, SwapDeviceError, UsmdError
from usmd.policy_rules import PolicyRules
from usmd.runtime_paths import prepare_folder
from usmd.server.signals import Signals, ignore_all
from usmd.sizes import format_size
from usmd.swap import kinds
from usmd.swap.open import parse_swap_spec
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

_EXAMPLES = """[bold]Examples[/bold]

Serve 64 MiB on defaults, in your runtime folder:  [bold]usmd serve[/bold]

More memory, one swap device in memory and one in a file:
[bold]usmd serve --memory 1GiB --swap memory:2GiB --swap file:/var/lib/usmd/swap0:8GiB[/bold]

As a service, from a file, with one setting changed:
[bold]usmd serve --config /etc/usmd/usmd.toml --evict lru[/bold]

With a policy of your own, from a file:  [bold]usmd serve --evict './cflru.py:CleanFirstLru(window=256)'[/bold]

Sizes are written 4096, 4KiB, 64MiB, 1GiB, or 4K, 64M, 1G: all are powers of 1,024.

Ctrl-C or SIGTERM ends the sessions, stops usmd, and removes what it created.
"""

_PLACES = "Places"
_MEMORY = "Memory"
_POLICIES = "Policies"
_POLICY = "NAME | FILE.py:CLASS"


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
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Configuration; a flag given here overrides it. Default: none."),
    ] = None,
    socket: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Clients' socket. Default: usmd.sock in your runtime folder.", rich_help_panel=_PLACES
        ),
    ] = None,
    admin_socket: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Operators' socket. Default: admin.sock in your runtime folder.",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder of swap files without a path. Default: your runtime folder.",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help=f"Size of the memory. Default: {format_size(MemoryConfig().size)}.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    page_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help=f"Bytes in a page, a power of two, 512B to 2MiB. Default: {format_size(MemoryConfig().page_size)}.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(
            metavar=kinds.forms(" | "),
            help="A swap device; repeat for several. They replace the configured ones. Default: one in memory, 4 times "
            "as large as --memory.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    mechanism: Annotated[
        str | None,
        typer.Option(
            metavar="auto|userfaultfd|simulated",
            help="Where bytes are: in memory that clients map, or in a pool behind calls. auto (default): the first "
            "if possible.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    fault_wakeup: Annotated[
        str | None,
        typer.Option(
            metavar="auto|sleep|spin:US|follow",
            help="How to wait for real page faults; spin takes a CPU for US microseconds after each. Default: "
            f"{MemoryConfig().fault_wakeup}.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    alloc: Annotated[
        str | None,
        typer.Option(
            metavar=_POLICY,
            help=f"Default alloc policy: how a fault is served. Without it: {PolicyRules().alloc}.",
            rich_help_panel=_POLICIES,
        ),
    ] = None,
    evict: Annotated[
        str | None,
        typer.Option(
            metavar=_POLICY,
            help=f"Default evict policy: which pages leave memory. Without it: {PolicyRules().evict}.",
            rich_help_panel=_POLICIES,
        ),
    ] = None,
    oom: Annotated[
        str | None,
        typer.Option(
            metavar=_POLICY,
            help=f"Default oom policy: what happens if no page can be evicted. Without it: {PolicyRules().oom}.",
            rich_help_panel=_POLICIES,
        ),
    ] = None,
    cond: Annotated[
        str | None,
        typer.Option(
            metavar=_POLICY,
            help=f"Default cond policy: what is done without a fault. Without it: {PolicyRules().cond}.",
            rich_help_panel=_POLICIES,
        ),
    ] = None,
    no_uvloop: Annotated[
        bool, typer.Option("--no-uvloop", metavar=" ", help="Run on asyncio's own event loop.")
    ] = False,
    trace_events: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write every event of the core to a file, for `usmctl debug replay-events`. Default: none.",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Serve metrics on this loopback port too, such as 127.0.0.1:9842. Default: on a Unix socket alone, at "
            "the path of the operators' plus .metrics.",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="auto|human|json", help="auto (default): human on a terminal, else json.")
    ] = None,
) -> None:
    """Own memory and serve it to applications, until SIGTERM or SIGINT."""
    overrides = {
        "server.socket": socket,
        "server.admin_socket": admin_socket,
        "server.state_dir": str(state_dir.absolute()) if state_dir is not None else None,
        "server.uvloop": False if no_uvloop else None,
        "server.trace_events": str(trace_events.absolute()) if trace_events is not None else None,
        "server.log_format": log_format,
        "metrics.listen": metrics_listen,
        "memory.size": memory,
        "memory.page_size": page_size,
        "memory.mechanism": mechanism,
        "memory.fault_wakeup": fault_wakeup,
        "policy.alloc": alloc,
        "policy.evict": evict,
        "policy.oom": oom,
        "policy.cond": cond,
    }
    try:
        devices = [parse_swap_spec(text) for text in swap or []]
        settings = load(config, {key: value for key, value in overrides.items() if value is not None}, devices)
        code = _run(settings)
    except (InvalidArgument, SwapDeviceError) as error:
        raise _complaint(error, EXIT_CONFIG) from error
    except AlreadyRunning as error:
        raise _complaint(error, EXIT_ALREADY_RUNNING) from error
    raise typer.Exit(code)


def _run(config: Config) -> int:
    """Prepare the log and the runtime folder, serve, and return the exit code."""
    standard_streams.never_block()
    log.configure(config.server.log_format)
    server = config.server
    if runtime_folder() in (server.socket.parent, server.admin_socket.parent, server.state_dir):
        prepare_folder(runtime_folder())
    with Signals() as signals:
        # Imported here, because grpc must not be imported before the log is configured, and `--help` needs none of it.
        from usmd.server.daemon import serve as serve_until_stopped

        return serve_until_stopped(config, signals)


def _complaint(error: UsmdError, code: int) -> typer.Exit:
    """Print the error on stderr in one line; the caller raises the exit."""
    complain("usmd", " ".join(str(error).split()))
    return typer.Exit(code)


program = built(app)
"""All commands, built once: each call of `app` would build them again."""


def main() -> None:
    """Entry point of `usmd`."""
    standard_streams.open_missing()
    use_escapes()
    try:
        program()
    finally:
        ignore_all()
