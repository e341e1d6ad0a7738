"""`usmctl limits`: lists users with limits, and what their sessions have in sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from usmd.ctl.command import connected, listed, show
from usmd.ctl.limit_command import user_texts
from usmd.ctl.options import AddressOption, FormatOption, sort_option
from usmd.ctl.tables import Column, in_order, pages_column, show_list

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1.admin_pb2 import UserInfo as User
    from usm_wire.pb.usm.v1.admin_pb2 import UserLimits

EPILOG = """Examples:

usmctl limits

usmctl limits --sort res --format json"""


Number = Literal["max_regions", "max_hint_ranges", "max_faults"]


def numbers_of(user: User) -> str:
    """What a user has of its limits in numbers; "-" if it has none."""
    limits: tuple[tuple[Number, int, int], ...] = (
        ("max_regions", user.regions, user.limits.max_regions),
        ("max_hint_ranges", user.hint_ranges, user.limits.max_hint_ranges),
        ("max_faults", user.waiting_pages, user.limits.max_faults),
    )
    return ", ".join(f"{name} {has:,}/{most:,}" for name, has, most in limits if user.limits.HasField(name)) or "-"


def columns(page_size: int = 0, *, numbers: bool = True) -> list[Column[User]]:
    """Columns of users. A page size adds sizes to pages, `numbers` the limits in numbers."""

    def limit(title: str, index: int, key: Callable[[UserLimits], int]) -> Column[User]:
        return Column(title, lambda it: user_texts(it.limits, page_size)[index], lambda it: key(it.limits))

    return [
        Column(">UID", lambda it: str(it.uid), lambda it: it.uid),
        Column(">SESSIONS", lambda it: f"{it.sessions:,}", lambda it: it.sessions),
        limit(">MAX_SESSIONS", 0, lambda it: it.max_sessions),
        pages_column(">RES", lambda it: it.resident_pages, page_size),
        limit(">MEMORY_MAX", 1, lambda it: it.memory_max_pages),
        limit(">MEMORY_MIN", 2, lambda it: it.memory_min_pages),
        pages_column(">STORED", lambda it: it.swap_max_used_pages, page_size),
        limit(">SWAP_MAX", 3, lambda it: it.swap_max_pages),
        limit(">WEIGHT", 4, lambda it: it.memory_weight),
        Column(">REFUSED", lambda it: f"{it.refused_faults:,}", lambda it: it.refused_faults, 1),
        *([Column("LIMITS", numbers_of, None, 2)] if numbers else []),
    ]


def limits(
    context: typer.Context,
    sort: Annotated[str | None, sort_option(columns())] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """List users with limits, and what their sessions have in sum.

    STORED are the pages that count against SWAP_MAX; REFUSED the faults that failed because of these limits. LIMITS are
    those in numbers, after what there is. Limits of single processes are in `usmctl processes`.
    """
    with connected(context, address) as admin:
        users, size = admin.users(), admin.status().page_size
    ordered = in_order(columns(size), users, sort)
    show(context, output, lambda: listed("users", ordered), lambda it: show_users(it, ordered, size))


def show_users(console: Console, users: list[User], page_size: int) -> None:
    """Print one line per user."""
    shown = columns(page_size, numbers=any(numbers_of(each) != "-" for each in users))
    show_list(console, shown, users, "no user has limits of its own; usmctl limit --uid sets them")
