"""What the shell offers after Tab: policies, processes, regions, formats, columns; nothing while the daemon is away.

Typer calls these with the command line as far as it is written; `usmctl --install-completion` sets the shell up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import typer

from usmd.ctl.connect import Admin, admin_socket
from usmd.ctl.targets import from_argument
from usmd.errors import UsmdError
from usmd.event_levels import NOTICES
from usmd.policies import registry

_Answer = TypeVar("_Answer")
Offer = Callable[[str], list[str]]
"""Called with the word as far as it is written; typer looks at the annotations of what it is given."""


def policies(kind: str) -> Offer:
    """Policies of a kind, of which an option takes several between commas."""

    def offer(incomplete: str) -> list[str]:
        return in_list(registry.TABLES[kind], incomplete)

    return offer


def one_of(names: Iterable[str]) -> Offer:
    """Names of which an option takes one, or several between commas."""
    found = list(names)

    def offer(incomplete: str) -> list[str]:
        return in_list(found, incomplete)

    return offer


kinds = one_of(NOTICES)


def processes(context: typer.Context, incomplete: str) -> list[str]:
    """Names of processes, and numbers of those without a name of their own."""
    found = [(process.process_id, process.name) for process in _ask(context, Admin.processes)]
    names = [name for _, name in found]
    offered = [name if name and names.count(name) == 1 and "," not in name else str(number) for number, name in found]
    return in_list(offered, incomplete)


def regions(context: typer.Context, incomplete: str) -> list[str]:
    """Names or numbers of the regions of the process that is named before."""
    process = context.params.get("process")

    def ask(admin: Admin) -> Sequence[str]:
        found = admin.regions(admin.process_id(process if isinstance(process, str) else None))
        names = [region.name for region in found]
        return [
            region.name if region.name and names.count(region.name) == 1 else str(region.region_id) for region in found
        ]

    return in_list(_ask(context, ask), incomplete)


def places(context: typer.Context, incomplete: str) -> list[str]:
    """Regions, with the `+` that an offset follows."""
    return [f"{region}+" for region in regions(context, incomplete)]


def in_list(names: Iterable[str], incomplete: str) -> list[str]:
    """Those of `names` that go on with the last word of a list with commas, after what the list has already."""
    before, comma, word = incomplete.rpartition(",")
    if before.count("(") > before.count(")"):
        return []  # inside a policy's parameters
    return [f"{before}{comma}{name}" for name in names if name.startswith(word)]


def _ask(context: typer.Context, question: Callable[[Admin], Sequence[_Answer]]) -> Sequence[_Answer]:
    """Put a question to the daemon of the command line; no answer is an empty one."""
    address = context.params.get("address") or (context.parent and context.parent.params.get("address"))
    try:
        with Admin(admin_socket(from_argument(address) if isinstance(address, str) else None)) as admin:
            return question(admin)
    except UsmdError:
        return ()  # a shell that waits for words has no use for a complaint
