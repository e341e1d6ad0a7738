"""`usmctl policies` and `usmctl policy set`: lists policies and those in force, and replaces them in a live process."""

from __future__ import annotations

from typing import Annotated

import typer

from usmd.ctl import completion, policies_view
from usmd.ctl.as_json import plain
from usmd.ctl.command import connected, show
from usmd.ctl.options import AddressOption, FormatOption, ProcessArgument, sort_option
from usmd.ctl.tables import in_order
from usmd.ctl.targets import absolute_files
from usmd.errors import InvalidArgument

LIST_EPILOG = "Examples:\n\nusmctl policies\n\nusmctl policies --sort errors"
SET_EPILOG = """Examples:

usmctl policy set indexer --evict s3_fifo

usmctl policy set 3 --evict 'hint_aware(fallback=arc)' --alloc 'flexible_huge_pages(pages=8)'

usmctl policy set indexer --evict ./cflru.py:CleanFirstLru"""

policy = typer.Typer(
    help="Replace policies of a live process.",
    epilog="Example: usmctl policy set indexer --evict s3_fifo",
    no_args_is_help=True,
)


def policies(
    context: typer.Context,
    sort: Annotated[str | None, sort_option(policies_view.COLUMNS)] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List the policies and the processes that use them; and for each process its policies, their errors and origin."""
    with connected(context, address) as admin:
        found = admin.policies()
    ordered = in_order(policies_view.COLUMNS, found.policies, sort)
    del found.policies[:]
    found.policies.extend(ordered)
    show(context, output, lambda: plain(found), lambda console: policies_view.show_policies(console, found))


@policy.command("set", epilog=SET_EPILOG)
def set_(
    context: typer.Context,
    process: ProcessArgument,
    evict: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Evict policy: which page leaves when memory is short.",
            show_default=False,
            autocompletion=completion.policies("evict"),
        ),
    ] = None,
    alloc: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Alloc policy: how many pages a fault brings in.",
            show_default=False,
            autocompletion=completion.policies("alloc"),
        ),
    ] = None,
    oom: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Oom policy: what happens when no page can be evicted.",
            show_default=False,
            autocompletion=completion.policies("oom"),
        ),
    ] = None,
    cond: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Conditional policy: what is done without a fault; none ends it.",
            show_default=False,
            autocompletion=completion.policies("cond"),
        ),
    ] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Replace policies of a live process; its memory stays as it is.

    SPEC is a name of `usmctl policies`, with parameters in parentheses if needed, or path/to/file.py:Class, a file that
    belongs to root or to the daemon's user. All policies given are tried before any is set. A new evict policy begins
    with the pages in memory, in the order in which the old one would have evicted them.

    The change lasts until the session ends. A policy that makes more errors than policy.max_errors is replaced by the
    default; `usmctl policies` and `usmctl watch` report it.
    """
    wanted = {"alloc": alloc, "evict": evict, "oom": oom, "cond": cond}
    given = {kind: absolute_files(text) for kind, text in wanted.items() if text is not None}
    if not all(given.values()):
        raise InvalidArgument("a policy is empty; allowed is a name of `usmctl policies` or path/to/file.py:Class")
    if not given:
        raise InvalidArgument("no policy is given; give at least one of --evict, --alloc, --oom, --cond")
    with connected(context, address) as admin:
        answer = admin.set_policy(admin.process_id(process), given)
    show(context, output, lambda: plain(answer), lambda console: policies_view.show_changes(console, answer))
