"""The daemon's own memory, as the kernel counts it: what is resident, and the most that was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import RunningDaemon

_KIB_A_MIB = 1024


def _kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@contextmanager
def at_most_grown(daemon: RunningDaemon | int, mib: int) -> Iterator[None]:
    """Whatever happens in the block, the daemon's memory does not grow by `mib` MiB, not even for a moment.

    `daemon`: it, or the number of its process, which must live on.
    """
    pid = daemon if isinstance(daemon, int) else daemon.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the most is what is resident now
    before = _kib(pid, "VmRSS")
    yield
    grown = (_kib(pid, "VmHWM") - before) / _KIB_A_MIB
    assert grown < mib, f"the daemon's memory grew by {grown:.1f} MiB; allowed are {mib}"
