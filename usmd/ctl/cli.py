"""usmctl: the commands and their options.

Exit codes: 0 done, 1 the daemon cannot be reached or refuses, 2 bad usage; those of `doctor` are its own. connect asks
the daemon; the view modules print the answers.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from usmd.command_line import HELP_OPTIONS, Format, built
from usmd.ctl import (
    completion,
    debug_command,
    drain_command,
    events_view,
    explain_command,
    hints_command,
    limit_command,
    limits_command,
    lists_view,
    map_command,
    policy_command,
    record_command,
    reload_command,
    replay_command,
    run_command,
    schema_command,
    shadow_command,
    status_view,
    swap_command,
    top_command,
)
from usmd.ctl.address import ADDRESS_VARIABLE
from usmd.ctl.as_json import plain, write_line
from usmd.ctl.command import (
    ENDING,
    FAILED,
    INTERRUPTED,
    Interrupt,
    connected,
    ended_by,
    listed,
    show,
    until_interrupted,
)
from usmd.ctl.console import make_console
from usmd.ctl.options import AddressOption, FormatOption, ProcessFilter, Shared, chosen_format, sort_option
from usmd.ctl.tables import in_order
from usmd.errors import InvalidArgument, UsmdError
from usmd.event_levels import NOTICES
from usmd.standard_streams import open_missing
from usmd.text_output import complain, use_escapes

BAD_USAGE = 2
_UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN, errno.ECONNRESET
)  # fmt: skip


app = typer.Typer(
    name="usmctl",
    help="Inspect and control usmd.\n\n"
    "Every command accepts --format json for programs. The daemon's address is --address, else "
    f"${ADDRESS_VARIABLE}, else the default socket of the same user's daemon.",
    epilog="Start with: usmctl status\n\nExit codes: 0 done, 1 the daemon cannot be reached or refuses, 2 bad usage, "
    "130 ended by a signal; those of doctor, debug and run are in their help.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": list(HELP_OPTIONS)},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from usmd.version import VERSION  # reads the metadata of packages

        typer.echo(f"usmctl {VERSION}")
        raise typer.Exit


@app.callback()
def usmctl(
    context: typer.Context,
    address: AddressOption = None,
    output: FormatOption = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, metavar=" ", help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Keep the options given before the command."""
    context.obj = Shared(address, output)


@app.command(epilog="Example: usmctl status")
def status(context: typer.Context, address: AddressOption = None, output: FormatOption = None) -> None:
    """Show the daemon at a glance: memory, watermarks, swap, sessions, counters."""
    with connected(context, address) as admin:
        answer = admin.status()
    show(context, output, lambda: plain(answer), lambda console: status_view.show_status(console, answer))


@app.command(epilog="Examples:\n\nusmctl processes\n\nusmctl processes --sort res --format json")
def processes(
    context: typer.Context,
    sort: Annotated[str | None, sort_option(lists_view.process_columns())] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List the processes (client sessions) with their policies and memory.

    RES, SWAP, UNEVICTABLE and PINNED are pages: in memory, in swap only, kept by EVICTION=DENY, and pinned.
    """
    with connected(context, address) as admin:
        found = in_order(lists_view.process_columns(), admin.processes(), sort)
        size = admin.status().page_size
    show(
        context,
        output,
        lambda: listed("processes", found),
        lambda console: lists_view.show_processes(console, found, size),
    )


@app.command(epilog="Examples:\n\nusmctl regions indexer\n\nusmctl regions --sort faults")
def regions(
    context: typer.Context,
    process: ProcessFilter = None,
    sort: Annotated[str | None, sort_option(lists_view.region_columns())] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List the regions of one process, or of all.

    RES and SWAP are pages: in memory, and in swap only. MAJOR counts the faults that needed I/O.
    """
    with connected(context, address) as admin:
        found = in_order(lists_view.region_columns(), admin.regions(admin.process_id(process)), sort)
        size = admin.status().page_size
    show(
        context,
        output,
        lambda: listed("regions", found),
        lambda console: lists_view.show_regions(console, found, size),
    )


app.command("map", epilog=map_command.EPILOG)(map_command.map_)


@app.command(
    epilog="Examples:\n\nusmctl watch\n\nusmctl watch --kind process_killed,swap_error --process indexer --format json"
)
def watch(
    context: typer.Context,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[,KIND...]",
            help=f"Only events of these kinds: {', '.join(sorted(NOTICES))}. Default: all.",
            show_default=False,
            autocompletion=completion.kinds,
        ),
    ] = None,
    process: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROCESS[,PROCESS...]",
            help="Only events of these processes, by number or name. Default: all, and those of no process.",
            show_default=False,
            autocompletion=completion.processes,
        ),
    ] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Print events as they happen, one a line, until Ctrl-C.

    An event that was missed, because a thousand others were waiting to be read, is counted in events_missed.
    """
    as_json = chosen_format(context, output) is Format.JSON
    console = make_console()
    with connected(context, address) as admin, until_interrupted():
        wanted = [each.strip() for text in kind or [] for each in text.split(",")]
        for event in admin.events(wanted, admin.process_ids(process or [])):
            if as_json:
                write_line(plain(event), sys.stdout)
            else:
                console.print(events_view.event_line(event), soft_wrap=True)
                sys.stdout.flush()


@app.command(epilog="Examples:\n\nusmctl doctor\n\nusmctl doctor --format json")
def doctor(context: typer.Context, output: FormatOption = None) -> None:
    """Show what this machine offers for real memory, what usmd will use, and how to get what is missing.

    Needs no daemon. Run it as the user whose program will use the memory: the checks depend on that user's rights.

    Exit code: 0 if real memory (userfaultfd) can be used, 1 if only simulated memory can.
    """
    from usmd.ctl import doctor_view  # these import the mechanisms and the log
    from usmd.ctl.doctor import diagnose
    from usmd.ctl.doctor_probe import look

    report = diagnose(look())
    show(
        context,
        output,
        lambda: doctor_view.as_document(report),
        lambda console: doctor_view.show_report(console, report),
    )
    raise typer.Exit(FAILED if report.reason else 0)


# Commands with their own module.
app.command(epilog=policy_command.LIST_EPILOG)(policy_command.policies)
app.add_typer(policy_command.policy, name="policy")
app.add_typer(swap_command.swap, name="swap")
app.command(epilog=limit_command.EPILOG)(limit_command.limit)
app.command(epilog=limits_command.EPILOG)(limits_command.limits)
app.command(epilog=drain_command.EPILOG)(drain_command.drain)
app.command(epilog=hints_command.EPILOG)(hints_command.hints)
app.command(epilog=explain_command.EPILOG)(explain_command.explain)
app.command(epilog=record_command.EPILOG)(record_command.record)
app.command(epilog=shadow_command.EPILOG)(shadow_command.shadow)
app.command(epilog=top_command.EPILOG)(top_command.top)
app.command(epilog=replay_command.EPILOG)(replay_command.replay)
app.command(epilog=reload_command.EPILOG)(reload_command.reload)
app.command(epilog=run_command.EPILOG, context_settings={"allow_interspersed_args": False})(run_command.run)
app.command(epilog=schema_command.EPILOG)(schema_command.schema)
app.add_typer(debug_command.debug, name="debug")

program = built(app)
"""All commands, built once: each call of `app` would build them again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run usmctl on `arguments`, or on those of the process, and return the exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # usmctl's own messages say more than gRPC's log
    open_missing()
    use_escapes()
    interrupt = Interrupt()
    with ended_by(interrupt, *ENDING):
        try:
            return _run(arguments)
        except Exception:
            if not interrupt.came:
                raise
            return _complain("interrupted", INTERRUPTED)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        try:
            program(None if arguments is None else list(arguments), prog_name="usmctl")
        finally:
            sys.stdout.flush()  # here, where an error can still be reported
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except InvalidArgument as error:
        return _complain(error, BAD_USAGE)
    except UsmdError as error:
        return _complain(error, FAILED)
    except MemoryError:
        return _complain("there is not enough memory for that", FAILED)
    except BrokenPipeError:
        sys.stdout = None  # else Python flushes again at exit, with a traceback
        return FAILED  # quietly: a reader that closes early, as `head` does, has all it wanted
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        sys.stdout = None
        return _complain(f"the output cannot be written: {error.strerror}", FAILED)
    return 0


def _complain(error: UsmdError | str, code: int) -> int:
    complain("usmctl", error)
    return code
