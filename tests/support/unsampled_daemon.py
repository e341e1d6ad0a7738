"""A daemon whose kernel refuses to take pages out of a client's page table, which is not seen at the start."""

from __future__ import annotations

import errno
import os

from usmd.mechanism import sampler


def refuse() -> None:
    """Have process_madvise fail with EPERM, but without ranges, as it is tried at the start."""
    asked = sampler.syscall

    def refused(number: int, pidfd: int, vector: int, count: int, advice: int) -> int:
        if not count:
            return asked(number, pidfd, vector, count, advice)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    sampler.syscall = refused  # type: ignore[attr-defined]
