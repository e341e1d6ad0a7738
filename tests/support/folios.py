"""Huge folios of shared memory during a test, as root: the settings are the machine's, so one test at a time."""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_memory import require_real_memory
from usmd.mechanism.huge_folios import FOLDER, HARDWARE_PAGE, NO_FOLIOS, look
from usmd.mechanism.sampler import why_no_features
from usmd.mechanism.uffd import probe

_SETTING = Path(FOLDER) / "shmem_enabled"
_LOCK = Path("/tmp/usmd-tests-shmem-enabled.lock")


@contextlib.contextmanager
def shmem_enabled(value: str) -> Iterator[None]:
    """Set `shmem_enabled`, and restore it; skips the test with the reason where that cannot be done."""
    require_real_memory()
    why_not = why_no_features(probe().features)
    if why_not or not _SETTING.exists() or HARDWARE_PAGE != 4096:
        pytest.skip(f"huge folios cannot be had: {why_not or 'this kernel has none for shared memory'}")
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = re.search(r"\[(\w+)\]", _SETTING.read_text(encoding="ascii"))
        assert before is not None
        try:
            _SETTING.write_text(value, encoding="ascii")
        except OSError as error:
            pytest.skip(f"{_SETTING} cannot be set: {error.strerror}")
        try:
            if value == "advise" and look() == NO_FOLIOS:
                pytest.skip("this kernel gives shared memory no folios of 2 MiB")
            yield
        finally:
            _SETTING.write_text(before[1], encoding="ascii")


def folios_so_far() -> int:
    """Huge folios of shared memory since the machine began."""
    counts = Path("/proc/vmstat").read_text(encoding="ascii").split()
    return int(counts[counts.index("thp_file_alloc") + 1])
