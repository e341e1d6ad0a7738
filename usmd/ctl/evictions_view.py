"""The last evictions of a process as a table, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console

from usmd.ctl.tables import PROSE, Column, show_list
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

COLUMNS: Final[list[Column[admin_pb2.EvictedPage]]] = [
    Column(">AGO", lambda it: f"{it.eviction.seconds_ago:,.3f} s", lambda it: it.eviction.seconds_ago),
    Column("REGION", lambda it: f"{it.region_id} {_region(it)}".rstrip(), None, 2),
    Column(">PAGE", lambda it: f"{it.page:,}", lambda it: it.page),
    Column(">ADDRESS", lambda it: f"{it.address:#x}" if it.address else "-", lambda it: it.address, 3),
    Column("RESULT", lambda it: printable(it.eviction.result)),
    Column("POLICY", lambda it: printable(it.eviction.policy), None, 1),
    Column("WHY", lambda it: printable(it.eviction.reason) or "no reason given"),
]


def show_evictions(console: Console, found: admin_pb2.ListEvictionsResponse) -> None:
    """Print one line per eviction, and the number of all evictions."""
    show_list(console, COLUMNS, found.evictions, "no evictions on record", enough=PROSE)
    if found.evictions:
        console.print(
            f"{len(found.evictions):,} of {found.total:,} evictions; the last {found.records:,} are on record",
        )


def _region(eviction: admin_pb2.EvictedPage) -> str:
    return printable(eviction.region_name) if eviction.HasField("region_name") else "(gone)"
