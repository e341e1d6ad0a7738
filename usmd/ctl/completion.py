"""Shell completion: policies, processes, regions, formats, columns; without a daemon, no processes and regions.

Typer calls these functions with the command line typed so far; `usmctl --install-completion` sets up the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import typer

from usmd.ctl.address import admin_socket
from usmd.ctl.targets import from_argument
from usmd.errors import UsmdError
from usmd.event_levels import NOTICES

if TYPE_CHECKING:
    from usmd.ctl.connect import Admin

_Answer = TypeVar("_Answer")
Offer = Callable[[str], list[str]]
"""Called with the word typed so far; typer inspects the annotations of its arguments."""


def policies(kind: str) -> Offer:
    """Policies of a kind, for an option that takes several separated by commas."""

    def offer(incomplete: str) -> list[str]:
        from usmd.policies import registry  # imports the core, which only this needs

        return in_list(registry.TABLES[kind], incomplete)

    return offer


def one_of(names: Iterable[str]) -> Offer:
    """Names, for an option that takes one, or several separated by commas."""
    found = list(names)

    def offer(incomplete: str) -> list[str]:
        return in_list(found, incomplete)

    return offer


kinds = one_of(NOTICES)


def processes(context: typer.Context, incomplete: str) -> list[str]:
    """Names of processes, and the numbers of those without a unique name."""
    found = [(process.process_id, process.name) for process in _ask(context, lambda admin: admin.processes())]
    names = [name for _, name in found]
    offered = [name if name and names.count(name) == 1 and "," not in name else str(number) for number, name in found]
    return in_list(offered, incomplete)


def regions(context: typer.Context, incomplete: str) -> list[str]:
    """Names or numbers of the regions of the process given before."""
    process = context.params.get("process")

    def ask(admin: Admin) -> Sequence[str]:
        found = admin.regions(admin.process_id(process if isinstance(process, str) else None))
        names = [region.name for region in found]
        return [
            region.name if region.name and names.count(region.name) == 1 else str(region.region_id) for region in found
        ]

    return in_list(_ask(context, ask), incomplete)


def devices(context: typer.Context, incomplete: str) -> list[str]:
    """Names of swap devices."""
    return in_list([device.name for device in _ask(context, lambda admin: admin.swap_devices())], incomplete)


def places(context: typer.Context, incomplete: str) -> list[str]:
    """Regions with a `+`, after which the offset is typed."""
    return [f"{region}+" for region in regions(context, incomplete)]


def in_list(names: Iterable[str], incomplete: str) -> list[str]:
    """The completions of the last word of a comma-separated list, each with the words before it."""
    before, comma, word = incomplete.rpartition(",")
    if before.count("(") > before.count(")"):
        return []  # inside a policy's parameters
    return [f"{before}{comma}{name}" for name in names if name.startswith(word)]


def _ask(context: typer.Context, question: Callable[[Admin], Sequence[_Answer]]) -> Sequence[_Answer]:
    """Ask the daemon of the command line; without an answer, empty."""
    from usmd.ctl.connect import Admin

    address = context.params.get("address")
    place = context.parent
    while not address and place is not None:  # also given before the command, or before the group that it is in
        address, place = place.params.get("address"), place.parent
    try:
        with Admin(admin_socket(from_argument(address) if isinstance(address, str) else None)) as admin:
            return question(admin)
    except UsmdError:
        return ()  # a completing shell has no use for an error message
