"""A usmd of the benchmark's own, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(*flags: str) -> Iterator[str]:
    """Address of a daemon with these flags; it is drained at the end."""
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as folder:
        socket = Path(folder) / "usmd.sock"
        command = [sys.executable, "-m", "usmd", "serve", "--socket", str(socket), *flags]
        command += ["--admin-socket", str(Path(folder) / "admin.sock"), "--log-format", "json"]
        with started(command):
            yield f"unix:{socket}"


@contextmanager
def started(command: list[str]) -> Iterator[None]:
    """A process that says `ready` on stderr before the block runs, and gets SIGTERM after it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "ready" in line:
                break
        else:
            raise RuntimeError(f"{command} ended before it was ready: {''.join(said)}")
        yield
    finally:
        process.terminate()
        process.stderr.read()
        process.wait()
        process.stderr.close()
