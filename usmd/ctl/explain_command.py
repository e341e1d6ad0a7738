"""`usmctl explain`: all about one page, or the last evictions of a process."""

from __future__ import annotations

from typing import Annotated

import typer

from usmd.ctl import completion, evictions_view, explain_view
from usmd.ctl.as_json import plain
from usmd.ctl.command import connected, show
from usmd.ctl.options import AddressOption, FormatOption, ProcessArgument, sort_option
from usmd.ctl.tables import in_order
from usmd.ctl.targets import parse_page
from usmd.errors import InvalidArgument

EPILOG = """Examples:

usmctl explain indexer index+64KiB

usmctl explain 3 0x10000000

usmctl explain indexer --evictions 20"""


def explain(
    context: typer.Context,
    process: ProcessArgument,
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS|REGION+OFFSET",
            help="Any address of the page (decimal or 0x hex), or a region's number or name and an offset in bytes "
            "(decimal, 0x hex or a size such as 64KiB).",
            show_default=False,
            autocompletion=completion.places,
        ),
    ] = None,
    evictions: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=1_000_000,
            help="Show the last N evictions instead, newest first: of the page if one is given, else of the "
            "process. 0: all on record, which are the last 256 of a process.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[str | None, sort_option(evictions_view.COLUMNS)] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Show all about one page: state, frame, slot, hint in force, waiting faults, last eviction and its reason.

    With --evictions, show the last evicted pages, the policy that chose each, its reason, and the result.
    """
    if page is None and evictions is None:
        raise InvalidArgument("no page is given; give an address or REGION+OFFSET, or --evictions N")
    place = None if page is None else parse_page(page)
    with connected(context, address) as admin:
        process_id = admin.process_id(process)
        if evictions is not None:
            found = admin.evictions(process_id, place, evictions)
            ordered = in_order(evictions_view.COLUMNS, found.evictions, sort)
            del found.evictions[:]
            found.evictions.extend(ordered)
            show(context, output, lambda: plain(found), lambda console: evictions_view.show_evictions(console, found))
        elif place is not None:
            answer = admin.explain(process_id, place)
            show(context, output, lambda: plain(answer), lambda console: explain_view.show_page(console, answer))
