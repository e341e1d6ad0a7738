"""`usmctl debug`: what is for the search for defects of usmd itself."""

from __future__ import annotations

from typing import Final

import typer
from rich.console import Console

from lib_usm.pb.usm.v1 import admin_pb2
from usmd.ctl.as_json import plain
from usmd.ctl.command import FAILED, connected, show
from usmd.ctl.options import AddressOption, FormatOption

VALIDATE_EPILOG: Final = "Examples:\n\nusmctl debug validate\n\nusmctl debug validate --format json"

debug = typer.Typer(
    help="Search for defects of usmd itself.",
    epilog="Example: usmctl debug validate",
    no_args_is_help=True,
)


@debug.command(epilog=VALIDATE_EPILOG)
def validate(context: typer.Context, address: AddressOption = None, output: FormatOption = None) -> None:
    """Check that all that the daemon knows of its frames, pages and swap slots goes together.

    The daemon goes on serving meanwhile; a check of a million pages takes some seconds. What does not hold is a defect
    of usmd, to be reported with its log.

    Exit code: 0 where all holds, 1 where something does not.
    """
    with connected(context, address) as admin:
        answer = admin.validate()
    show(context, output, lambda: plain(answer), lambda console: _show(console, answer))
    raise typer.Exit(FAILED if answer.violation_count else 0)


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
