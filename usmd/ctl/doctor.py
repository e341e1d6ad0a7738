"""What a machine offers for real memory, what usmd will therefore use, and how to get what is missing. Pure.

doctor_probe collects the findings, doctor_view prints the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from usmd.config import MemoryConfig
from usmd.mechanism.huge_folios import FOLDER, LARGEST, NO_FOLIOS, Folios
from usmd.mechanism.sampler import NEEDED, ByClient, why_no_features
from usmd.mechanism.uffd import DEVICE, REQUIRED, WANTED, Feature, Offer, usable
from usmd.sizes import format_size

PREFIX: Final = "UFFD_FEATURE_"
DESCRIPTORS: Final = 4096
"""Open files for a daemon with the default of 1,024 sessions, including its own."""
MAP_COUNT: Final = 65_530
"""The kernel's default of vm.max_map_count."""

_DEFAULTS: Final = MemoryConfig()
_FIRST_DEVICE: Final = (6, 1)
_WP_ON_ARM: Final = (6, 10)
_DEVICE_RULE: Final = 'KERNEL=="userfaultfd", GROUP="usmd", MODE="0660"'


class Use(StrEnum):
    """What usmd does with a feature."""

    REQUIRED = "required"
    USED = "used"
    UNUSED = "not used"


class Known(NamedTuple):
    """A feature: the kernel version that introduced it, and what it is for."""

    since: tuple[int, int]
    gives: str


FEATURES: Final = {
    Feature.PAGEFAULT_FLAG_WP: Known((5, 7), "a write to a protected page is a fault"),
    Feature.EVENT_FORK: Known((4, 11), "word of fork()"),
    Feature.EVENT_REMAP: Known((4, 11), "word of a mapping that mremap() moved"),
    Feature.EVENT_REMOVE: Known((4, 11), "word of pages given back by madvise()"),
    Feature.MISSING_HUGETLBFS: Known((4, 11), "faults on absent pages of hugetlbfs"),
    Feature.MISSING_SHMEM: Known((4, 11), "faults on absent pages of shared memory"),
    Feature.EVENT_UNMAP: Known((4, 11), "word of a mapping that was unmapped"),
    Feature.SIGBUS: Known((4, 14), "a signal in place of a fault"),
    Feature.THREAD_ID: Known((4, 14), "which thread a fault holds up"),
    Feature.MINOR_HUGETLBFS: Known((5, 13), "faults on unmapped pages of hugetlbfs"),
    Feature.MINOR_SHMEM: Known((5, 14), "faults on unmapped pages of shared memory"),
    Feature.EXACT_ADDRESS: Known((5, 18), "the address of a fault, not only its page"),
    Feature.WP_HUGETLBFS_SHMEM: Known((5, 19), "protected pages of shared memory, so that eviction loses no write"),
    Feature.WP_UNPOPULATED: Known((6, 4), "protection of anonymous pages never touched"),
    Feature.POISON: Known((6, 6), "SIGBUS for a page that is lost, in place of an endless wait"),
    Feature.WP_ASYNC: Known((6, 7), "written pages noted without a fault"),
    Feature.MOVE: Known((6, 8), "pages moved, not copied"),
}


class DeviceFile(NamedTuple):
    """/dev/userfaultfd: who may use it, and why this process may not (empty: it may)."""

    mode: int
    owner: str
    group: str
    denied: str


class Limit(NamedTuple):
    """A resource limit; None: unlimited."""

    soft: int | None
    hard: int | None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The findings, without judgement. An `_error` is empty if the thing works. A None: it cannot be read."""

    kernel: str
    """Kernel release, for example 6.18.4-generic."""
    machine: str
    """Architecture, for example x86_64."""
    page_size: int
    """Bytes of a hardware page."""
    offer: Offer
    device: DeviceFile | None
    """None: there is no such file."""
    unprivileged: int | None
    """vm.unprivileged_userfaultfd."""
    may_trace: bool
    """True if this process has CAP_SYS_PTRACE, which the system call requires unless the sysctl is 1."""
    filtered: bool
    """True if a seccomp filter is in force."""
    container: bool
    memfd_error: str
    pidfd_error: str
    io_errors: dict[str, str]
    """By way of I/O of a swap file: why this process lacks it; empty: it has it."""
    open_files: Limit
    locked_bytes: Limit
    map_count: int | None
    """vm.max_map_count."""
    memory_bytes: int | None
    """Memory that the machine could still give."""
    build: str
    """Whether usmd's hot path runs compiled, see `usmd.compiled`."""
    sampling_error: str = ""
    """Why a usmd of this user could not hear of touches that are no faults."""
    sampling_way: str = ByClient.name
    """How it would hear of them otherwise, from clients by this installation of lib_usm."""
    folios: Folios = NO_FOLIOS
    ways: tuple[tuple[int, str], ...] = ()
    """Least bytes of a run of zeros, and the way that fills it fastest, largest runs first; UFFDIO_ZEROPAGE below."""


class FeatureRow(NamedTuple):
    """A feature on this machine."""

    name: str
    since: str
    use: Use
    here: bool | None
    """None: unknown, because there is no userfaultfd to ask."""
    gives: str


class Advice(NamedTuple):
    """Something missing or too small, and how to get it. If `blocks`, there is no real memory without it."""

    what: str
    how: str
    blocks: bool


@dataclass(frozen=True)
class Report:
    """The findings and the conclusions."""

    findings: Findings
    reason: str
    """Why there is no real memory; empty: there is."""
    features: tuple[FeatureRow, ...]
    advice: tuple[Advice, ...]
    """Advice, what blocks first."""

    @property
    def mechanism(self) -> str:
        """The mechanism that usmd will use."""
        return "simulated" if self.reason else "userfaultfd"

    @property
    def verdict(self) -> str:
        """The conclusion in one line."""
        because = f", because {self.reason}" if self.reason else ""
        return f"usmd will use: {self.mechanism}{because}"


def diagnose(findings: Findings) -> Report:
    """Draw the conclusions from the findings."""
    reason = (
        usable(findings.offer)
        or (findings.memfd_error and f"no sealed memfd: {findings.memfd_error}")
        or _odd_pages(findings.page_size)
    )
    advice = [*_descriptor(findings), *_features(findings), *_memory(findings), *_folios(findings), *_limits(findings)]
    in_order = sorted(FEATURES, key=lambda feature: FEATURES[feature].since)
    rows = tuple(_row(feature, findings.offer) for feature in in_order)
    return Report(findings, reason, rows, tuple(sorted(advice, key=lambda each: not each.blocks)))


def kernel_version(release: str) -> tuple[int, int]:
    """Major and minor number of a kernel release; (0, 0) if it has none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _row(feature: Feature, offer: Offer) -> FeatureRow:
    use = Use.REQUIRED if feature in REQUIRED else Use.USED if feature in WANTED | NEEDED else Use.UNUSED
    known = FEATURES[feature]
    here = feature in offer.features if offer.way else None
    return FeatureRow(f"{PREFIX}{feature.name}", _dotted(known.since), use, here, known.gives)


def _descriptor(findings: Findings) -> Iterator[Advice]:
    """Advice on ways to open a userfaultfd, of which one is enough; none if one without restrictions works already."""
    way = findings.offer.way
    if way in ("device", "syscall"):
        return
    blocks = not way
    subject = "userfaultfd" if blocks else "faults of system calls, which now get EFAULT,"
    device = findings.device
    if device is None and findings.unprivileged is None:
        yield Advice(subject, "Linux 5.19 or later, built with CONFIG_USERFAULTFD=y; some sandboxes hide it", blocks)
        return
    if device is not None and device.denied:
        yield Advice(
            f"{subject} by the device: {DEVICE} has mode {device.mode:04o}, {device.owner}:{device.group}",
            f"as root: groupadd -f -r usmd && usermod -aG usmd NAME && chgrp usmd {DEVICE} && chmod 0660 {DEVICE}; to "
            f"last, a line in /etc/udev/rules.d/60-usmd.rules: {_DEVICE_RULE}",
            blocks,
        )
    elif device is None and findings.container:
        yield Advice(
            f"{subject} by the device: no {DEVICE} in this container",
            f"docker run --device {DEVICE}, where the host has it",
            blocks,
        )
    elif device is None and kernel_version(findings.kernel) < _FIRST_DEVICE:
        yield Advice(f"{subject} by the device: no {DEVICE}", f"Linux {_dotted(_FIRST_DEVICE)} or later", blocks)
    allowed = findings.may_trace or bool(findings.unprivileged)
    if findings.filtered and (blocks or allowed):
        yield Advice(
            f"{subject} by the system call: a seccomp filter denies it, as in most containers",
            "docker run --security-opt seccomp=PROFILE.json, with a profile that allows userfaultfd",
            blocks,
        )
    elif not allowed:
        yield Advice(
            f"{subject} by the system call: vm.unprivileged_userfaultfd = {findings.unprivileged}, no CAP_SYS_PTRACE",
            "as root: sysctl -w vm.unprivileged_userfaultfd=1, to last in /etc/sysctl.d/60-usmd.conf; it opens "
            "userfaultfd to every user, the device to those of its group",
            blocks,
        )


def _features(findings: Findings) -> Iterator[Advice]:
    """Advice on missing features that usmd would use; none without a descriptor: then the features are unknown."""
    if not findings.offer.way:
        return
    for feature in (each for each in FEATURES if each in (REQUIRED | WANTED | NEEDED) & ~findings.offer.features):
        since = FEATURES[feature].since
        how = f"Linux {_dotted(since)} or later"
        if kernel_version(findings.kernel) >= since:
            how += ", with the option built in"
            if feature in Feature.PAGEFAULT_FLAG_WP | Feature.WP_HUGETLBFS_SHMEM:
                how = (
                    "a kernel built with CONFIG_PTE_MARKER_UFFD_WP=y, on an architecture with write-protect faults: "
                    f"x86-64, or arm64 since Linux {_dotted(_WP_ON_ARM)}; this is {findings.machine}"
                )
        yield Advice(f"{PREFIX}{feature.name}: {FEATURES[feature].gives}", how, feature in REQUIRED)


def _memory(findings: Findings) -> Iterator[Advice]:
    if findings.memfd_error:
        yield Advice(
            f"a sealed memfd: {findings.memfd_error}",
            "Linux 3.17 or later with CONFIG_MEMFD_CREATE=y, and vm.memfd_noexec below 2 (sysctl -w vm.memfd_noexec=1)",
            True,
        )
    if findings.pidfd_error:
        yield Advice(f"pidfd: {findings.pidfd_error}", "Linux 5.3 or later; usmd does without", False)
    if odd := _odd_pages(findings.page_size):
        size = format_size(findings.page_size).replace(" ", "")
        yield Advice(odd, f"usmd serve --page-size {size}, or a multiple of it", True)
    if findings.memory_bytes is not None and findings.memory_bytes < _DEFAULTS.size:
        yield Advice(
            f"memory: {format_size(findings.memory_bytes)} available, usmd takes {format_size(_DEFAULTS.size)}",
            "usmd serve --memory SIZE, with less than that",
            False,
        )


def _folios(findings: Findings) -> Iterator[Advice]:
    """Advice on huge folios of 2 MiB, if the kernel has them and userfaultfd can map them."""
    folios = findings.folios
    if (
        not folios.others
        or LARGEST in folios.sizes
        or usable(findings.offer)
        or why_no_features(findings.offer.features)
    ):
        return
    yield Advice(
        f"huge folios for shared memory (shmem_enabled = {folios.shmem_enabled}): without them the first touch of a "
        "huge page of 2 MiB (FHP=2M) takes about twice as long",
        f"as root: echo advise > {FOLDER}/shmem_enabled; then start usmd again. Only programs that ask are affected",
        False,
    )


def _odd_pages(hardware: int) -> str:
    """Why pages of the default size cannot be real ones; empty if they can."""
    size = _DEFAULTS.page_size
    return (
        f"pages of {format_size(size)} are not a multiple of the hardware's {format_size(hardware)}"
        if size % hardware
        else ""
    )


def _limits(findings: Findings) -> Iterator[Advice]:
    hard = findings.open_files.hard
    if hard is not None and hard < DESCRIPTORS:
        yield Advice(
            f"open files: at most {hard:,}, too few for 1,024 applications and their regions",
            "as root: ulimit -n 65536, or LimitNOFILE=65536 in the service's unit; or a smaller server.max_sessions",
            False,
        )
    if findings.map_count is not None and findings.map_count < MAP_COUNT:
        yield Advice(
            f"vm.max_map_count = {findings.map_count:,}, too few for many regions",
            f"as root: sysctl -w vm.max_map_count={MAP_COUNT}",
            False,
        )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
