"""`usmctl policies` and `usmctl policy set`: which there are, who has which, and another one for a live process."""

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
    help="Give a live process other policies.",
    epilog="Example: usmctl policy set indexer --evict s3_fifo",
    no_args_is_help=True,
)


def policies(
    context: typer.Context,
    sort: Annotated[str | None, sort_option(policies_view.COLUMNS)] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List the policies there are and who uses them; and what each process has, its errors, and how it came by it."""
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
            help="Evict policy: which page goes when memory is short.",
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
            help="Oom policy: what happens when nothing can go.",
            show_default=False,
            autocompletion=completion.policies("oom"),
        ),
    ] = None,
    cond: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Conditional policy: what is done when no fault asks; none ends it.",
            show_default=False,
            autocompletion=completion.policies("cond"),
        ),
    ] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Put other policies in the place of those that a live process has; its memory stays as it is.

    SPEC is a name of `usmctl policies`, with parameters in parentheses if need be, or path/to/file.py:Class, a file
    that belongs to root or to the daemon's user. All policies given are tried before any is set. A new evict policy
    begins with the pages that are in memory, in the order in which the old one would have evicted them.

    It holds until the session ends. A policy that makes more errors than policy.max_errors is replaced by the
    default; `usmctl policies` and `usmctl watch` tell.
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
