"""A daemon whose kernel refuses to take pages out of a client's page table, as it does without CAP_SYS_NICE."""

from __future__ import annotations

import errno
import os

from usmd.mechanism import sampler


def refuse() -> None:
    """Have process_madvise fail with EPERM."""

    def refused(*_: object) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    sampler.syscall = refused  # type: ignore[attr-defined]
