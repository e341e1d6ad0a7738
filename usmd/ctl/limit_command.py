"""`usmctl limit`: gives live processes, or a user, other limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console

from usmd.ctl import completion
from usmd.ctl.as_json import plain
from usmd.ctl.command import connected, show
from usmd.ctl.options import AddressOption, FormatOption
from usmd.ctl.tables import show_table
from usmd.errors import InvalidArgument
from usmd.sizes import format_size
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

EPILOG = """Examples:

usmctl limit indexer memory_min=16M

usmctl limit 481516 memory_max=25% swap_max=1G memory_weight=50

usmctl limit batch max_regions=16 max_faults=32 deny_budget=5%

usmctl limit --user 1000 memory_max=none

usmctl limit --uid 1000 max_sessions=8 memory_max=1G swap_max=4G memory_weight=200"""

Quota = Literal["max_faults", "max_hint_ranges", "max_regions"]
QUOTAS: Final[tuple[Quota, ...]] = ("max_faults", "max_hint_ranges", "max_regions")
Key = Literal["memory_max", "memory_min", "memory_weight", "swap_max", "deny_budget", Quota]
KEYS: Final[tuple[Key, ...]] = ("memory_max", "memory_min", "memory_weight", "swap_max", "deny_budget", *QUOTAS)
UserNumber = Literal["memory_weight", Quota]
USER_NUMBERS: Final[tuple[UserNumber, ...]] = ("memory_weight", *QUOTAS)
UserKey = Literal["max_sessions", "memory_max", "memory_min", "swap_max", UserNumber]
USER_KEYS: Final[tuple[UserKey, ...]] = ("max_sessions", "memory_max", "memory_min", "swap_max", *USER_NUMBERS)


def limit(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROCESS] KEY=VALUE...",
            help="Number or name of a process, and its limits: memory_max, memory_min, swap_max, deny_budget (a share "
            "such as 25%, a size such as 64M, or none), max_regions, max_hint_ranges, max_faults (a number, or none) "
            "and memory_weight (1 to 10,000); with --uid max_sessions in place of deny_budget.",
            show_default=False,
            autocompletion=completion.processes,
        ),
    ],
    user: Annotated[
        int | None,
        typer.Option("--user", metavar="UID", help="Each process that this user has now.", show_default=False),
    ] = None,
    uid: Annotated[
        int | None,
        typer.Option(
            "--uid",
            metavar="UID",
            help="This user: all its sessions together, also those to come.",
            show_default=False,
        ),
    ] = None,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Give live processes other limits until their sessions end, or a user until usmd restarts.

    What is not named stays as it is. With --uid a limit is for what the user's sessions have in sum: a user at its
    memory_max evicts pages of its own process that is furthest above its share, and one with a memory_weight competes
    with others as one process of that weight. `usmctl limits` lists such limits.

    memory_max: most memory; a process above it evicts its own pages. memory_min: guaranteed memory; while a process has
    at most that much, no other one takes a page of it. memory_weight: its share under pressure, 100 unless set; twice
    the weight keeps about twice the memory. swap_max: most swap; it needs memory_max.

    deny_budget: memory that EVICTION=DENY and pins may keep. max_regions, max_hint_ranges: most regions, and ranges
    with a hint. max_faults: most pages that its faults wait for at a time; more are taken when fewer wait. Each is at
    most what every process may have.
    """
    if uid is not None:
        if user is not None:
            raise InvalidArgument("--user and --uid are both given; give one: each process, or all together")
        asked = _user_request(uid, words)
        with connected(context, address) as admin:
            done, size = admin.set_user_limits(asked), admin.status().page_size
        show(context, output, lambda: plain(done), lambda console: show_user_limits(console, done, size))
        return
    process, pairs = (None, words) if user is not None else (words[0], words[1:])
    request = _request(pairs)
    with connected(context, address) as admin:
        if process is None:
            request.uid = user or 0
        else:
            request.process_id = admin.process_id(process)
        answer = admin.set_limits(request)
        size = admin.status().page_size
    show(context, output, lambda: plain(answer), lambda console: show_limits(console, answer, size))


def _request(pairs: Sequence[str]) -> admin_pb2.SetLimitsRequest:
    """The limits of `KEY=VALUE` words; raises InvalidArgument."""
    if not pairs:
        raise InvalidArgument(f"no limit is given; give at least one of {', '.join(f'{key}=VALUE' for key in KEYS)}")
    from usm_wire.pb.usm.v1 import admin_pb2

    request = admin_pb2.SetLimitsRequest()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        key = next((each for each in KEYS if each == name), None)
        if not equals or key is None:
            raise InvalidArgument(f"limit {pair!r}; allowed is KEY=VALUE with one of {', '.join(KEYS)}")
        if request.HasField(key):
            raise InvalidArgument(f"{key} is given twice; give it once")
        if key != "memory_weight":
            setattr(request, key, value)
        elif value.isascii() and value.isdigit() and int(value) < 1 << 32:
            request.memory_weight = int(value)
        else:
            raise InvalidArgument(f"memory_weight={value!r}; allowed is a whole number from 1 to 10000")
    return request


def _user_request(uid: int, pairs: Sequence[str]) -> admin_pb2.SetUserLimitsRequest:
    """The limits of `KEY=VALUE` words for a user; raises InvalidArgument."""
    from usm_wire.pb.usm.v1 import admin_pb2

    if not 0 <= uid < 1 << 32:
        raise InvalidArgument(f"--uid {uid}; allowed is a user's number")
    request = admin_pb2.SetUserLimitsRequest(uid=uid)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        key = next((each for each in USER_KEYS if each == name), None)
        if not equals or key is None:
            raise InvalidArgument(
                f"limit {pair!r}; allowed with --uid is KEY=VALUE with one of {', '.join(USER_KEYS)}, and no process"
            )
        if request.HasField(key):
            raise InvalidArgument(f"{key} is given twice; give it once")
        setattr(request, key, value)
    return request


def show_user_limits(console: Console, answer: admin_pb2.SetUserLimitsResponse, page_size: int) -> None:
    """Print the limits of a user, before and now."""
    console.print(f"user {answer.uid}, all sessions together", style="bold", markup=False)
    before, after = user_texts(answer.before, page_size), user_texts(answer.after, page_size)
    show_table(console, ("LIMIT", "BEFORE", "NOW"), zip(USER_KEYS, before, after, strict=True), "")


def user_texts(limits: admin_pb2.UserLimits, page_size: int) -> list[str]:
    """Limits of a user in words, in the order of `USER_KEYS`."""
    return [
        f"{limits.max_sessions:,}" if limits.HasField("max_sessions") else "none",
        _pages(limits.memory_max_pages if limits.HasField("memory_max_pages") else None, page_size),
        _pages(limits.memory_min_pages or None, page_size),
        _pages(limits.swap_max_pages if limits.HasField("swap_max_pages") else None, page_size),
        *(f"{getattr(limits, name):,}" if limits.HasField(name) else "none" for name in USER_NUMBERS),
    ]


def show_limits(console: Console, answer: admin_pb2.SetLimitsResponse, page_size: int) -> None:
    """Print the limits of each process, before and now."""
    for change in answer.changes:
        console.print(f"process {change.process_id} ({printable(change.name)})", style="bold", markup=False)
        before, after = _texts(change.before, page_size), _texts(change.after, page_size)
        show_table(console, ("LIMIT", "BEFORE", "NOW"), zip(KEYS, before, after, strict=True), "")


def _texts(limits: admin_pb2.ProcessLimits, page_size: int) -> list[str]:
    most = limits.memory_max_pages if limits.HasField("memory_max_pages") else None
    swap = limits.swap_max_pages if limits.HasField("swap_max_pages") else None
    budget = limits.deny_budget_pages if limits.HasField("deny_budget_pages") else None
    return [
        _pages(most, page_size),
        _pages(limits.memory_min_pages or None, page_size),
        str(limits.memory_weight),
        _pages(swap, page_size),
        _pages(budget, page_size),
        *(f"{getattr(limits, name):,}" if limits.HasField(name) else "none" for name in QUOTAS),
    ]


def _pages(count: int | None, page_size: int) -> str:
    return "none" if count is None else f"{count:,} ({format_size(count * page_size)})"
