"""Finds out what this machine offers for real memory, by trying it. Leaves nothing open, changes nothing.

It tries userfaultfd, memfd and pidfd, and reads limits and /proc. doctor draws the conclusions.
"""

from __future__ import annotations

import fcntl
import grp
import mmap
import os
import platform
import pwd
import re
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from usm_wire.native import taking_out
from usmd.compiled import BUILD
from usmd.ctl.doctor import DeviceFile, Findings, Limit
from usmd.mechanism import huge_folios, sampler, uffd, zeroing
from usmd.swap import ways

_CAP_SYS_PTRACE: Final = 19
_SECCOMP_FILTER: Final = "2"
_CONTAINER_MARKS: Final = ("/.dockerenv", "/run/.containerenv")
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

MemfdCreate = Callable[[str, int], int]


def look(root: Path = Path("/")) -> Findings:
    """The findings. `root` is the folder of /proc, /sys and /dev; system calls are this process's."""
    status = _fields(_text(root / "proc/self/status"))
    offer = uffd.probe()
    folios = huge_folios.look(root)
    by_client = taking_out() is not None
    available = _fields(_text(root / "proc/meminfo")).get("MemAvailable", "").removesuffix(" kB")
    return Findings(
        kernel=platform.release(),
        machine=platform.machine(),
        page_size=mmap.PAGESIZE,
        offer=offer,
        device=look_at_device(root / uffd.DEVICE.lstrip("/")),
        unprivileged=_number(_text(root / uffd.SYSCTL.lstrip("/"))),
        may_trace=bool(int(status.get("CapEff", "0"), 16) >> _CAP_SYS_PTRACE & 1),
        filtered=status.get("Seccomp") == _SECCOMP_FILTER,
        container=any((root / mark.lstrip("/")).exists() for mark in _CONTAINER_MARKS),
        memfd_error=try_memfd(),
        pidfd_error=try_pidfd(),
        io_errors={way: ways.probe(way) for way in ways.WAYS if way != ways.AUTO},
        open_files=_limit(resource.RLIMIT_NOFILE),
        locked_bytes=_limit(resource.RLIMIT_MEMLOCK),
        map_count=_number(_text(root / "proc/sys/vm/max_map_count")),
        memory_bytes=int(available) * 1024 if available.isdecimal() else None,
        sampling_error=sampler.why_no_features(offer.features)
        or sampler.kernel_swap(root / "proc/swaps")
        or ("" if by_client else sampler.why_not_permitted(root / "proc/self/status", root / "proc/self/ns/user")),
        sampling_way=(sampler.ByClient if by_client else sampler.Pageout).name,
        build=BUILD.text,
        folios=folios,
        ways=tuple((least, way.name) for least, way in zeroing.try_out(offer, folios)),
    )


def look_at_device(path: Path) -> DeviceFile | None:
    """Owner and mode of a device file, and whether this process may open it; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        denied = os.strerror(error.errno or 0)
    else:
        denied = ""
    return DeviceFile(stat.S_IMODE(found.st_mode), _user(found.st_uid), _group(found.st_gid), denied)


def try_memfd(create: MemfdCreate = os.memfd_create) -> str:
    """Make shared memory, seal its size, map it and touch it; returns why that fails, empty if it works."""
    try:
        descriptor = create("usmd-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        return f"memfd_create: {error.strerror}"
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        with mmap.mmap(descriptor, mmap.PAGESIZE) as mapped:
            mapped[0] = 1
            if os.pread(descriptor, 1, 0) != b"\x01":
                return "what is written to its mapping is not in it"
    except OSError as error:
        return f"sealing and mapping it: {error.strerror}"
    finally:
        os.close(descriptor)
    return ""


def try_pidfd(open_: Callable[[int], int] = os.pidfd_open) -> str:
    """Open a pidfd of this process; returns why that fails, empty if it works."""
    try:
        os.close(open_(os.getpid()))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _fields(text: str) -> dict[str, str]:
    """The lines `name: value` of a file in /proc."""
    return dict(re.findall(r"^(\S+):\s*(.*?)\s*$", text, re.MULTILINE))


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


def _limit(which: int) -> Limit:
    soft, hard = (None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(which))
    return Limit(soft, hard)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
