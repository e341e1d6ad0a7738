"""The columns of the lists of processes, regions and swap devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from usmd.ctl.status_view import format_latency
from usmd.ctl.tables import Column, pages_column, show_list
from usmd.sizes import format_size
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1.admin_pb2 import Mirror, Process
    from usm_wire.pb.usm.v1.admin_pb2 import RegionInfo as Region
    from usm_wire.pb.usm.v1.admin_pb2 import SwapDevice as Device

Quota = Literal["max_regions", "max_hint_ranges", "max_faults", "deny_budget_pages"]


def process_columns(
    page_size: int = 0, *, budgets: bool = False, swap_budgets: bool = False, guarantees: bool = False,
    weights: bool = False, frozen: bool = False, quotas: bool = False,
) -> list[Column[Process]]:  # fmt: skip
    """Columns of processes. A page size adds sizes to pages.

    `budgets` adds MAX, `guarantees` MIN, `weights` WEIGHT, `swap_budgets` OF SWAP_MAX, `frozen` FROZEN,
    `quotas` LIMITS.
    """
    least: Column[Process] = pages_column(">MIN", lambda it: it.memory_min_pages, page_size, 2)
    weight: Column[Process] = Column(">WEIGHT", lambda it: str(it.memory_weight), lambda it: it.memory_weight, 2)
    most: Column[Process] = pages_column(">MAX", lambda it: it.memory_max_pages, page_size, 2)
    most_swap: Column[Process] = Column(">OF SWAP_MAX", _of_swap_max, lambda it: it.swap_max_used_pages, 2)
    waits: Column[Process] = Column(">FROZEN", _frozen, lambda it: it.frozen_seconds)
    return [
        Column(">ID", lambda it: str(it.process_id), lambda it: it.process_id),
        Column("NAME", lambda it: printable(it.name)),
        Column(">PID", lambda it: str(it.pid) if it.pid else "-", lambda it: it.pid, 5),
        Column(">UID", lambda it: str(it.uid) if it.HasField("uid") else "-", lambda it: it.uid, 8),
        Column(">NTH", lambda it: str(it.order), lambda it: it.order, 9),
        Column(">REGIONS", lambda it: f"{it.regions:,}", lambda it: it.regions, 7),
        Column(">MAPPED", lambda it: format_size(it.mapped_bytes), lambda it: it.mapped_bytes, 3),
        pages_column(">RES", lambda it: it.resident_pages, page_size),
        *([least] if guarantees else []),
        *([most] if budgets else []),
        *([weight] if weights else []),
        pages_column(">SWAP", lambda it: it.swapped_pages, page_size),
        *([most_swap] if swap_budgets else []),
        *([waits] if frozen else []),
        pages_column(">UNEVICTABLE", lambda it: it.unevictable_pages, page_size, 4),
        pages_column(">PINNED", lambda it: it.pinned_pages, page_size, 6),
        Column(">PRESSURE", lambda it: f"{it.pressure.some.avg10:.1%}", lambda it: it.pressure.some.avg10, 2),
        Column(">FULL", _full, lambda it: it.pressure.full.avg10, 10),
        *([Column("LIMITS", quotas_of, None, 2)] if quotas else []),
        Column("POLICIES", lambda it: printable(_policies(it)), None, 1),
    ]


def quotas_of(process: Process) -> str:
    """What a process has of its own limits in numbers; "-" if it has none."""
    kept = process.unevictable_pages + process.pinned_pages
    limits: tuple[tuple[Quota, int, int], ...] = (
        ("max_regions", process.regions, process.max_regions),
        ("max_hint_ranges", process.hint_ranges, process.max_hint_ranges),
        ("max_faults", process.waiting_pages, process.max_faults),
        ("deny_budget_pages", kept, process.deny_budget_pages),
    )
    own = [f"{name.removesuffix('_pages')} {has:,}/{most:,}" for name, has, most in limits if process.HasField(name)]
    return ", ".join(own) or "-"


def region_columns(page_size: int = 0, *, of_one: bool = False) -> list[Column[Region]]:
    """Columns of regions, without PROC if all are `of_one` process."""
    process: Column[Region] = Column(">PROC", lambda it: str(it.process_id), lambda it: it.process_id, 1)
    return [
        Column(">ID", lambda it: str(it.region_id), lambda it: it.region_id),
        Column("NAME", lambda it: printable(it.name) or "-"),
        *([] if of_one else [process]),
        Column(">ADDRESS", lambda it: f"{it.address:#x}", lambda it: it.address, 4),
        Column(">LENGTH", lambda it: format_size(it.length), lambda it: it.length, 3),
        pages_column(">RES", lambda it: it.resident_pages, page_size),
        pages_column(">SWAP", lambda it: it.swapped_pages, page_size),
        Column(">FAULTS", lambda it: f"{it.faults:,}", lambda it: it.faults, 5),
        Column(">MAJOR", lambda it: f"{it.major_faults:,}", lambda it: it.major_faults, 2),
        Column(">EVICTED", lambda it: f"{it.evictions:,}", lambda it: it.evictions, 6),
        pages_column(">ALONG", lambda it: it.along_pages, page_size, 7),
        pages_column(">USED", lambda it: it.along_used_pages, page_size, 8),
        pages_column(">UNUSED", lambda it: it.along_unused_pages, page_size, 9),
    ]


def device_columns(page_size: int = 0, *, states: bool = False) -> list[Column[Device]]:
    """Columns of swap devices. `states`: with what each is doing."""
    return [
        Column(">NO", lambda it: str(it.number), lambda it: it.number),
        Column("NAME", lambda it: printable(it.name)),
        Column("KIND", lambda it: printable(it.kind), None, 5),
        *([Column("STATE", device_state, None, 1)] if states else []),
        pages_column(">SLOTS", lambda it: it.slots, page_size, 6),
        pages_column(">USED", _used, page_size),
        Column(">HELD", lambda it: format_size(it.held_bytes), lambda it: it.held_bytes, 12),
        Column(">SHARE", lambda it: f"{_share(it):.1%}" if it.capacity_bytes else "-", lambda it: _share(it)),
        Column(">RATIO", lambda it: f"{_packed(it) * page_size:.2f}" if it.held_bytes else "-", _packed, 4),
        Column(">WRITTEN", lambda it: f"{it.pages_written:,}", lambda it: it.pages_written, 7),
        Column(">READ", lambda it: f"{it.pages_read:,}", lambda it: it.pages_read, 8),
        Column(">P50", lambda it: _latency(it.read_p50_seconds), lambda it: it.read_p50_seconds, 3),
        Column(">P99", lambda it: _latency(it.read_p99_seconds), lambda it: it.read_p99_seconds, 2),
        Column(">IN FLIGHT", lambda it: f"{it.in_flight:,}", lambda it: it.in_flight, 9),
        Column(">REFUSED", lambda it: f"{it.pages_refused:,}", lambda it: it.pages_refused, 11),
        Column(">ERRORS", lambda it: f"{it.errors:,}", lambda it: it.errors, 1),
        Column("IO", lambda it: printable(it.io) or "-", None, 13),
        Column("PATH", lambda it: printable(it.path) or "-", None, 10),
    ]


def show_processes(console: Console, processes: Sequence[Process], page_size: int = 0) -> None:
    """Print one line per session."""
    columns = process_columns(
        page_size,
        budgets=any(each.memory_max_pages for each in processes),
        guarantees=any(each.memory_min_pages for each in processes),
        weights=len({each.memory_weight for each in processes}) > 1,
        frozen=any(each.frozen_faults for each in processes),
        swap_budgets=any(each.HasField("swap_max_pages") for each in processes),
        quotas=any(quotas_of(each) != "-" for each in processes),
    )
    show_list(console, columns, processes, "no processes: no application is attached")


def show_regions(console: Console, regions: Sequence[Region], page_size: int = 0, *, of_one: bool = False) -> None:
    """Print one line per region; `of_one`: of one process, which need not be named."""
    show_list(console, region_columns(page_size, of_one=of_one), regions, "no regions")


def show_swap_devices(console: Console, devices: Sequence[Device], page_size: int = 0) -> None:
    """Print one line per swap device."""
    nothing = "no swap devices: evicted pages have nowhere to go; see `usmd serve --swap`"
    states = any(each.state not in ("", "active") or each.HasField("mirror") for each in devices)
    show_list(console, device_columns(page_size, states=states), devices, nothing)
    for device in devices:
        if device.io_reason:
            console.print(f"{printable(device.name)}: {device.io}, because {printable(device.io_reason)}", markup=False)
        if device.HasField("mirror"):
            console.print(f"{printable(device.name)}: {mirror_state(device.mirror)}", markup=False)


def mirror_state(mirror: Mirror) -> str:
    """How the parts of a mirror stand, in words."""
    parts = f"mirror of {printable(mirror.far_kind)} (far) and {printable(mirror.local_kind)} (local)"
    more = [f"{mirror.pages_to_repair:,} pages to repair"] if mirror.pages_to_repair else []
    if mirror.local_only_pages:
        more.append(f"{mirror.local_only_pages:,} pages in the local part alone")
    if mirror.away:
        more.append(f"the far part is away: {printable(mirror.reason)}")
    return ", ".join([parts, "in step" if mirror.in_step else "degraded", *more])


def _policies(process: Process) -> str:
    found = [process.alloc_policy, process.evict_policy, process.oom_policy]
    if process.cond_policy not in ("", "none"):
        found.append(process.cond_policy)
    return ", ".join(found)


def _frozen(process: Process) -> str:
    """Faults that wait for memory, and for how long the process has been frozen."""
    return f"{process.frozen_faults:,} for {process.frozen_seconds:.0f} s" if process.frozen_faults else "-"


def _of_swap_max(process: Process) -> str:
    used, most = process.swap_max_used_pages, process.swap_max_pages
    if not process.HasField("swap_max_pages"):
        return "-"
    return f"{used:,} of {most:,} ({used / most:.1%})" if most else f"{used:,} of 0"


def _full(process: Process) -> str:
    return f"{process.pressure.full.avg10:.1%}" if process.pressure.HasField("full") else "-"


def device_state(device: Device) -> str:
    """What a device is doing, how far a retirement is, and how a mirror stands."""
    if device.state == "active" and device.HasField("mirror"):
        return "in step" if device.mirror.in_step else "degraded"
    if device.state != "retiring" or not device.retiring_pages:
        return printable(device.state) or "-"
    return f"retiring {max(1 - _used(device) / device.retiring_pages, 0.0):.0%}"


def _used(device: Device) -> int:
    return device.slots - device.free_slots


def _latency(seconds: float) -> str:
    return format_latency(seconds) if seconds else "-"


def _packed(device: Device) -> float:
    """Number of pages per byte held."""
    return _used(device) / device.held_bytes if device.held_bytes else 0.0


def _share(device: Device) -> float:
    """Share of the capacity that is held."""
    return device.held_bytes / device.capacity_bytes if device.capacity_bytes else 0.0
