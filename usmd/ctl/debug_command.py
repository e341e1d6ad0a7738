"""`usmctl debug`: finds defects of usmd itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypedDict

import typer
from rich.console import Console

from usmd.ctl.as_json import plain
from usmd.ctl.command import FAILED, connected, show
from usmd.ctl.options import AddressOption, FormatOption
from usmd.errors import EventLogError
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.lab.event_replay import Replayed

REPLAY_EPILOG: Final = (
    "Examples:\n\nusmctl debug replay-events events.jsonl\n\nusmctl debug replay-events events.jsonl --format json"
)
VALIDATE_EPILOG: Final = "Examples:\n\nusmctl debug validate\n\nusmctl debug validate --format json"

debug = typer.Typer(
    help="Find defects of usmd itself.",
    epilog="Example: usmctl debug validate",
    no_args_is_help=True,
)


class DifferenceDocument(TypedDict):
    """The first event that differs, for programs."""

    number: int
    seconds: float
    event: str
    what: str


class ReplayedDocument(TypedDict):
    """What came of a replay, for programs: a Replayed, and whether all was the same. For the schema alone."""

    version: str
    events: int
    compared: int
    states: int
    seconds: float
    ended: str
    difference: DifferenceDocument | None
    violations: list[str]
    same: bool


@debug.command(epilog=VALIDATE_EPILOG)
def validate(context: typer.Context, address: AddressOption = None, output: FormatOption = None) -> None:
    """Check that the daemon's records of frames, pages and swap slots are consistent.

    The daemon keeps serving meanwhile; a check of a million pages takes some seconds. An inconsistency is a defect of
    usmd: report it with the daemon's log.

    Exit code: 0 if all is consistent, 1 if not.
    """
    with connected(context, address) as admin:
        answer = admin.validate()
    show(context, output, lambda: plain(answer), lambda console: _show(console, answer))
    raise typer.Exit(FAILED if answer.violation_count else 0)


@debug.command(name="replay-events", epilog=REPLAY_EPILOG)
def replay_events(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A log of `usmd serve --trace-events`.", show_default=False)
    ],
    policy_files: Annotated[
        bool,
        typer.Option(
            "--policy-files", metavar=" ", help="Execute the policy files that the log names. Only for a log you trust."
        ),
    ] = False,
    output: FormatOption = None,
) -> None:
    """Have a new core handle the events of a log, and compare its results with the daemon's.

    Compared are the commands of each event and, at intervals, the state. Needs no daemon. Pages have no bytes here.

    Exit code: 0 if all is the same, 1 if something differs, an invariant does not hold at the end, or the file is not
    an event log.
    """
    import msgspec

    from usmd.lab.event_replay import Replay  # imports policies and the core, which other commands do not need

    try:
        with file.open("rb") as lines:
            found = Replay(lines, policy_files=policy_files).run()
    except OSError as error:
        raise EventLogError(f"{file} cannot be read: {error.strerror}") from error
    except EventLogError as error:
        raise EventLogError(f"{file}: {error}") from error
    document = {**msgspec.to_builtins(found), "same": found.same}
    show(context, output, lambda: document, lambda console: _show_replay(console, found))
    raise typer.Exit(0 if found.same else FAILED)


def _show_replay(console: Console, found: Replayed) -> None:
    what = f"{found.events:,} events of {found.seconds:.1f} s by usmd {printable(found.version)}"
    if found.difference is not None:
        first = found.difference
        lines = [
            f"differs at event {first.number:,}, {first.seconds:.3f} s after the first: {first.event}",
            first.what,
        ]
    elif found.compared < found.events:
        lines = [f"replayed, not compared, because the log has no digests: {what}"]
    else:
        lines = [f"same commands and state: {what}, state compared {found.states:,} times"]
    lines += [f"does not hold in the end: {each}" for each in found.violations]
    if found.ended:
        lines.append(f"the log goes no further: {found.ended}")
    for line in lines:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _show(console: Console, answer: admin_pb2.ValidateResponse) -> None:
    checked = (
        f"{answer.frames:,} frames, {answer.regions:,} {'region' if answer.regions == 1 else 'regions'} and "
        f"{answer.swap_slots:,} swap slots in {answer.seconds:.3f} s"
    )
    if not answer.violation_count:
        console.print(f"all holds: {checked}", highlight=False, markup=False)
        return
    for violation in answer.violations:
        console.print(violation, highlight=False, markup=False, soft_wrap=True)
    hidden = answer.violation_count - len(answer.violations)
    more = f", of which {hidden:,} are not shown" if hidden else ""
    console.print(f"{answer.violation_count:,} do not hold{more}: {checked}", highlight=False, markup=False)
