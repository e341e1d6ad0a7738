"""Policies as tables: the available ones, and those in force with the reason for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from usmd.ctl.status_view import format_duration
from usmd.ctl.tables import PROSE, Column, show_list, show_table
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

COLUMNS: Final[list[Column[admin_pb2.Policy]]] = [
    Column("KIND", lambda it: printable(it.kind)),
    Column("NAME", lambda it: printable(it.name)),
    Column("DEFAULT", lambda it: "yes" if it.is_default else "-", None, 1),
    Column("PROCESSES", lambda it: ", ".join(map(str, it.process_ids)) or "-", None, 2),
    Column(">ERRORS", lambda it: f"{it.errors:,}", lambda it: it.errors, 3),
    Column("WHAT IT DOES", lambda it: printable(it.summary), prose=True),
]


def show_policies(console: Console, found: admin_pb2.ListPoliciesResponse) -> None:
    """Print one line per policy; the default is for new sessions. Then one line per process and kind."""
    show_list(console, COLUMNS, found.policies, "no policies", enough=PROSE)
    if not found.processes:
        return
    console.print()
    in_force = (
        (
            f"{process.process_id} {printable(process.process_name)}",
            policy.kind,
            printable(policy.policy),
            f"{policy.errors:,}",
            how_it_came(policy),
        )
        for process in found.processes
        for policy in process.policies
    )
    show_table(console, ("PROCESS", "KIND", "IN FORCE", ">ERRORS", "SINCE"), in_force, "", (">ERRORS",))


def how_it_came(policy: admin_pb2.PolicyInForce) -> str | Text:
    """Since when a policy is in force, and why."""
    if not policy.HasField("change"):
        return "the session began"
    change = policy.change
    ago = f"{format_duration(change.seconds_ago)} ago"
    before = printable(change.before)
    if change.misbehaved:
        return Text(f"{ago}: took the place of {before}, which {printable(change.did)}", style="bold red")
    return f"{ago}: {printable(change.did) or 'set'} in the place of {before}"


def show_changes(console: Console, answer: admin_pb2.SetPolicyResponse) -> None:
    """Print one line per kind that was set: the policy before and now."""
    rows = ((change.kind, printable(change.before), printable(change.after)) for change in answer.changes)
    console.print(f"process {answer.process_id}", style="bold")
    show_table(console, ("KIND", "BEFORE", "NOW"), rows, "")
