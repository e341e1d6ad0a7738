"""The last evictions of a process as a table, newest first."""

from __future__ import annotations

from rich.console import Console

from lib_usm.pb.usm.v1 import admin_pb2
from usmd.ctl.tables import show_table
from usmd.text_output import printable


def show_evictions(console: Console, found: admin_pb2.ListEvictionsResponse) -> None:
    """One line per eviction, and how many there were in all."""
    rows = (
        (
            f"{each.eviction.seconds_ago:,.3f} s",
            f"{each.region_id} {_region(each)}".rstrip(),
            f"{each.page:,}",
            f"{each.address:#x}" if each.address else "-",
            printable(each.eviction.result),
            printable(each.eviction.policy),
            printable(each.eviction.reason) or "no reason given",
        )
        for each in found.evictions
    )
    columns = (">AGO", "REGION", ">PAGE", ">ADDRESS", "RESULT", "POLICY", "WHY")
    show_table(console, columns, rows, "no evictions on record")
    if found.evictions:
        console.print(
            f"{len(found.evictions):,} of {found.total:,} evictions; the last {found.records:,} are on record",
            soft_wrap=True,
        )


def _region(eviction: admin_pb2.EvictedPage) -> str:
    return printable(eviction.region_name) if eviction.HasField("region_name") else "(gone)"
