"""`usmctl hints`: lists hints with their effects and the budget in use, and removes hints."""

from __future__ import annotations

from typing import Annotated

import typer

from usmd.ctl import completion, hints_view
from usmd.ctl.as_json import plain
from usmd.ctl.command import connected, show
from usmd.ctl.options import AddressOption, FormatOption, sort_option
from usmd.ctl.tables import in_order
from usmd.ctl.targets import parse_range
from usmd.errors import InvalidArgument

EPILOG = """Examples:

usmctl hints

usmctl hints indexer --sort faults

usmctl hints indexer --clear index

usmctl hints indexer --clear index+64KiB:1MiB"""


def hints(
    context: typer.Context,
    process: Annotated[
        str | None,
        typer.Argument(
            metavar="PROCESS",
            help="Number or name of a process; default: all.",
            show_default=False,
            autocompletion=completion.processes,
        ),
    ] = None,
    clear: Annotated[
        str | None,
        typer.Option(
            metavar="REGION[+OFFSET[:LENGTH]]",
            help="Remove the hints of this range of PROCESS: a region by number or name, an offset and a length in "
            "bytes (decimal, 0x hex or a size such as 64KiB); default: the whole region, to its end. The process is "
            "not notified, and may set them again.",
            show_default=False,
            autocompletion=completion.regions,
        ),
    ] = None,
    sort: Annotated[str | None, sort_option(hints_view.COLUMNS)] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List the ranges with a hint in force, of one process or of all, and the pages kept in memory within the budget.

    FAULTS and EVICTED are counted under the hint since it was set. If later hints split its range, each part shows the
    same numbers, because they are the hint's. If UNEVICTABLE is below RESIDENT for EVICTION=DENY, the budget is spent.
    """
    if clear is None:
        with connected(context, address) as admin:
            found = admin.hints(admin.process_id(process))
        ordered = in_order(hints_view.COLUMNS, found.hint_ranges, sort)
        del found.hint_ranges[:]
        found.hint_ranges.extend(ordered)
        show(context, output, lambda: plain(found), lambda console: hints_view.show_hints(console, found))
        return
    if process is None:
        raise InvalidArgument("--clear needs a process: usmctl hints PROCESS --clear REGION[+OFFSET[:LENGTH]]")
    place, length = parse_range(clear)
    with connected(context, address) as admin:
        answer = admin.clear_hints(admin.process_id(process), place, length)
    show(context, output, lambda: plain(answer), lambda console: hints_view.show_cleared(console, answer))
