"""Findings of other machines, for tests of `usmctl doctor`."""

from __future__ import annotations

from usmd.ctl.doctor import FEATURES, DeviceFile, Findings, Limit
from usmd.mechanism.huge_folios import Folios
from usmd.mechanism.uffd import Feature, Offer

ALL = Feature(sum(FEATURES))
GOOD = Findings(
    kernel="6.18.4-generic",
    machine="x86_64",
    page_size=4096,
    offer=Offer("device", ALL, ""),
    device=DeviceFile(0o660, "root", "usmd", ""),
    unprivileged=0,
    may_trace=False,
    filtered=False,
    container=False,
    memfd_error="",
    pidfd_error="",
    io_errors={"io_uring": "", "aio": "", "threads": ""},
    open_files=Limit(1024, 524_288),
    locked_bytes=Limit(8 << 20, 8 << 20),
    map_count=65_530,
    memory_bytes=1 << 30,
    build="compiled",
    folios=Folios((2 << 20,), (), "advise"),
    ways=((2 << 20, "folios of 2048 KiB"),),
)
NONE = Offer("", Feature(0), "no userfaultfd: Operation not permitted")
DENIED = DeviceFile(0o600, "root", "root", "Permission denied")
