"""Allows huge folios to shared memory that asks, for the time of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usmd.mechanism import huge_folios


@contextmanager
def folios_allowed() -> Iterator[str]:
    """Allow folios to shared memory that asks, if this process may; yields what to say about it."""
    setting = Path(huge_folios.FOLDER) / "shmem_enabled"
    found = huge_folios.look()
    before = found.shmem_enabled
    if found.sizes or before != "never":
        yield f"shmem_enabled is {before or 'not there'}, as found"
        return
    try:
        setting.write_text("advise", encoding="ascii")
    except OSError as error:
        yield f"shmem_enabled is never, and cannot be set ({error.strerror}): no huge folios"
        return
    try:
        yield "shmem_enabled set to advise for this bench"
    finally:
        setting.write_text(before, encoding="ascii")
