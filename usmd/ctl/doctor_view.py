"""Prints a doctor's report as tables, and converts it to a document for programs."""

from __future__ import annotations

from typing import TypedDict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from usmd.ctl.doctor import PREFIX, FeatureRow, Findings, Report, Use
from usmd.ctl.tables import show_table
from usmd.mechanism.uffd import DEVICE
from usmd.sizes import format_size
from usmd.text_output import printable

_WAYS = {
    "device": "yes, by its device: faults of programs and of system calls",
    "syscall": "yes, by the system call: faults of programs and of system calls",
    "user-mode": "in part, user-mode only: a system call that meets an absent page gets EFAULT",
}
_HERE = {True: "yes", False: "no", None: "?"}


def show_report(console: Console, report: Report) -> None:
    """Print the findings, the conclusion, and how to get what is missing."""
    found = report.findings
    heading = Text(f"Linux {printable(found.kernel)}", style="bold")
    heading.append(f"  {found.machine}, hardware pages of {format_size(found.page_size)}", "not bold")
    console.print(heading)
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for fact, text in _facts(found):
        facts.add_row(fact, text)
    console.print(facts)
    console.print()
    _show_features(console, report.features)
    console.print()
    console.print(Text(report.verdict, style="bold red" if report.reason else "bold green"))
    for advice in report.advice:
        console.print()
        console.print(Text(f"missing: {advice.what}", style="bold" if advice.blocks else ""))
        console.print(f"  {advice.how}", soft_wrap=True)  # unbroken, so that a command can be copied


class AdviceDocument(TypedDict):
    """Something missing, and how to get it."""

    what: str
    how: str
    blocks: bool


class DeviceDocument(TypedDict):
    """The device of userfaultfd; `denied`: why not for this user."""

    path: str
    mode: str
    owner: str
    group: str
    denied: str


class FeatureDocument(TypedDict):
    """A feature of userfaultfd; `here` null: unknown."""

    name: str
    since: str
    use: Use
    here: bool | None
    gives: str


class UserfaultfdDocument(TypedDict):
    """How userfaultfd can be opened."""

    way: str
    error: str
    device: DeviceDocument | None
    unprivileged_userfaultfd: int | None
    cap_sys_ptrace: bool
    seccomp_filter: bool
    features: list[FeatureDocument]


class FoliosDocument(TypedDict):
    """Huge folios of shared memory."""

    sizes: list[int]
    others: list[int]
    shmem_enabled: str


class ZeroFillDocument(TypedDict):
    """How runs of zeros from so many bytes on are filled."""

    least_bytes: int
    way: str


class LimitDocument(TypedDict):
    """A limit; null: none."""

    soft: int | None
    hard: int | None


class LimitsDocument(TypedDict):
    """Limits of this process and machine."""

    open_files: LimitDocument
    locked_bytes: LimitDocument
    max_map_count: int | None
    memory_bytes: int | None


class DoctorDocument(TypedDict):
    """A report for programs: `mechanism`, `reason` and `missing` are conclusions, the rest are findings."""

    mechanism: str
    reason: str
    missing: list[AdviceDocument]
    kernel: str
    machine: str
    page_size: int
    build: str
    userfaultfd: UserfaultfdDocument
    sampling_error: str
    sampling_way: str
    folios: FoliosDocument
    zero_fill: list[ZeroFillDocument]
    container: bool
    memfd_error: str
    pidfd_error: str
    io_errors: dict[str, str]
    limits: LimitsDocument


def as_document(report: Report) -> DoctorDocument:
    """All of a report."""
    found = report.findings
    device = found.device
    return {
        "mechanism": report.mechanism,
        "reason": report.reason,
        "missing": [AdviceDocument(what=each.what, how=each.how, blocks=each.blocks) for each in report.advice],
        "kernel": found.kernel,
        "machine": found.machine,
        "page_size": found.page_size,
        "build": found.build,
        "userfaultfd": {
            "way": found.offer.way,
            "error": found.offer.why_not,
            "device": None
            if device is None
            else {
                "path": DEVICE,
                "mode": f"{device.mode:04o}",
                "owner": device.owner,
                "group": device.group,
                "denied": device.denied,
            },
            "unprivileged_userfaultfd": found.unprivileged,
            "cap_sys_ptrace": found.may_trace,
            "seccomp_filter": found.filtered,
            "features": [
                FeatureDocument(name=row.name, since=row.since, use=row.use, here=row.here, gives=row.gives)
                for row in report.features
            ],
        },
        "sampling_error": found.sampling_error,
        "sampling_way": "" if found.sampling_error else found.sampling_way,
        "folios": {
            "sizes": list(found.folios.sizes),
            "others": list(found.folios.others),
            "shmem_enabled": found.folios.shmem_enabled,
        },
        "zero_fill": [{"least_bytes": least, "way": way} for least, way in found.ways],
        "container": found.container,
        "memfd_error": found.memfd_error,
        "pidfd_error": found.pidfd_error,
        "io_errors": found.io_errors,
        "limits": {
            "open_files": {"soft": found.open_files.soft, "hard": found.open_files.hard},
            "locked_bytes": {"soft": found.locked_bytes.soft, "hard": found.locked_bytes.hard},
            "max_map_count": found.map_count,
            "memory_bytes": found.memory_bytes,
        },
    }


def _facts(found: Findings) -> list[tuple[str, str]]:
    files, locked = found.open_files, found.locked_bytes
    return [
        ("userfaultfd", _WAYS.get(found.offer.way) or printable(found.offer.why_not)),
        ("  device", _device(found)),
        ("  system call", _system_call(found)),
        ("memfd", "yes: made, sealed, mapped and written to" if not found.memfd_error else f"no: {found.memfd_error}"),
        ("pidfd", "yes" if not found.pidfd_error else f"no: {found.pidfd_error}"),
        (
            "Touches",
            f"faults alone: {found.sampling_error}" if found.sampling_error else f"sampled, by {found.sampling_way}",
        ),
        ("Huge folios", _folios(found)),
        ("Swap files", "; ".join(f"{way}: {printable(why) or 'yes'}" for way, why in found.io_errors.items())),
        ("Open files", f"{_limit(files.soft)}, at most {_limit(files.hard)} (RLIMIT_NOFILE)"),
        ("Locked memory", f"{_size(locked.soft)}, at most {_size(locked.hard)} (RLIMIT_MEMLOCK)"),
        ("Mappings", f"{_count(found.map_count)} a process (vm.max_map_count)"),
        ("Memory", "unknown" if found.memory_bytes is None else f"{format_size(found.memory_bytes)} available"),
        ("usmd runs", printable(found.build)),
    ]


def _folios(found: Findings) -> str:
    folios = found.folios
    setting = f"shmem_enabled = {folios.shmem_enabled or 'not there'}"
    text = f"of {', '.join(map(format_size, folios.sizes))} ({setting})" if folios.sizes else f"none ({setting})"
    ways = "; ".join(f"runs of {format_size(least)} and more: {way}" for least, way in found.ways)
    return f"{text}; zeros by {ways or 'UFFDIO_ZEROPAGE'}"


def _device(found: Findings) -> str:
    device = found.device
    if device is None:
        return f"{DEVICE} is not there" + (", as in most containers" if found.container else "")
    who = f"{DEVICE}, mode {device.mode:04o}, {printable(device.owner)}:{printable(device.group)}"
    return f"{who}: {f'not for this user ({device.denied})' if device.denied else 'open to this user'}"


def _system_call(found: Findings) -> str:
    setting = "unknown" if found.unprivileged is None else str(found.unprivileged)
    right = "with" if found.may_trace else "without"
    filtered = ", under a seccomp filter" if found.filtered else ""
    return f"vm.unprivileged_userfaultfd = {setting}, this process {right} CAP_SYS_PTRACE{filtered}"


def _show_features(console: Console, features: tuple[FeatureRow, ...]) -> None:
    titles = (f"{PREFIX}...", ">SINCE", "USMD", "HERE", "WHAT IT GIVES")
    cells = ((row.name.removeprefix(PREFIX), row.since, row.use.value, _HERE[row.here], row.gives) for row in features)
    rows = [[Text(cell, _style(row)) for cell in each] for row, each in zip(features, cells, strict=True)]
    show_table(console, titles, rows, "", (">SINCE", "USMD"), titles[-1:])


def _style(row: FeatureRow) -> str:
    if row.use is Use.UNUSED:
        return "dim"
    if row.here is not False:
        return ""
    return "bold red" if row.use is Use.REQUIRED else "yellow"


def _limit(value: int | None) -> str:
    return "without limit" if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    return "without limit" if value is None else format_size(value)


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
