"""A daemon whose kernel refuses to take pages out of a client's page table, as it does without CAP_SYS_NICE."""

from __future__ import annotations

import ctypes
import errno

from usmd.mechanism import sampler


def refuse() -> None:
    """Have process_madvise fail with EPERM."""

    def refused(*_: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    sampler._syscall = refused  # type: ignore[assignment]
