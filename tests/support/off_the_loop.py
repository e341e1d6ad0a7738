"""A change to a daemon: it writes down on which thread it does what takes longer the more a client has mapped."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from usmd.mechanism import poisoning
from usmd.mechanism.client_memory import ClientMemory

VARIABLE: Final = "USMD_TEST_THREADS"
"""Names the file."""
LOOP: Final = "the loop"
ASIDE: Final = "another thread"
WORK: Final = ((poisoning, "mappings_of"), (ClientMemory, "poison_all"), (ClientMemory, "close"))
"""Reading the mappings of a process, poisoning all its missing pages, closing its userfaultfd."""


def write_down() -> None:
    """Write a line for each of these calls."""
    out = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            where = LOOP if threading.current_thread() is threading.main_thread() else ASIDE
            os.write(out, f"{name} {where}\n".encode())
            return call(*arguments, **options)

        return wrapper

    for owner, name in WORK:
        setattr(owner, name, noted(name, getattr(owner, name)))


def seen(file: Path) -> set[tuple[str, str]]:
    """The names of the calls, and where each was."""
    lines = (line.partition(" ") for line in file.read_text(encoding="utf-8").splitlines())
    return {(name, where) for name, _, where in lines}
