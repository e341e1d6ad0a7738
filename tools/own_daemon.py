"""A usmd of one's own, in a process of its own, for a benchmark or an example."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class OwnDaemon(NamedTuple):
    """Where it listens: `address` for lib_usm, `admin_address` for usmctl. `folder` is its own and ends with it."""

    address: str
    admin_address: str
    folder: Path


@contextmanager
def running(*flags: str, swap_file: str | None = None, program: Sequence[str] = ("-m", "usmd")) -> Iterator[OwnDaemon]:
    """Run `usmd serve` with these flags and a swap file of size `swap_file`, if any; drain it at the end.

    `program`: what Python runs in the place of usmd, with the same arguments.
    """
    with tempfile.TemporaryDirectory(prefix="usmd-") as name:
        folder = Path(name)
        socket, admin = folder / "usmd.sock", folder / "admin.sock"
        command = [sys.executable, *program, "serve", "--socket", str(socket), "--admin-socket", str(admin)]
        command += ["--state-dir", str(folder), "--log-format", "json", *flags]
        if swap_file is not None:
            command += ["--swap", f"file:{folder / 'swap'}:{swap_file}"]
        with started(command):
            yield OwnDaemon(f"unix:{socket}", f"unix:{admin}", folder)


def launch(command: list[str]) -> subprocess.Popen[str]:
    """Start a process whose stderr is read, in a group of its own.

    Ctrl-C is for the program, which still needs the daemon when it cleans up.
    """
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)


def start_python(*arguments: str, says: bool = False, hears: bool = False) -> subprocess.Popen[str]:
    """Start Python with these arguments, for a program beside the daemon. `says`, `hears`: with a pipe for that."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE if hears else None,
        stdout=subprocess.PIPE if says else None,
        text=True,
    )


@contextmanager
def started(command: list[str]) -> Iterator[None]:
    """A process that says `ready` on stderr before the block runs, and gets SIGTERM after it.

    Raises RuntimeError with what it said when it ends before that.
    """
    process = launch(command)
    rest: threading.Thread | None = None
    with process:
        try:
            said: list[str] = []
            for line in process.stderr or ():
                said.append(line)
                if "ready" in line:
                    break
            else:
                raise RuntimeError(f"{' '.join(command)} ended before it was ready: {''.join(said)}")
            # What it says later is dropped: a pipe that nobody reads is full after 64 KiB.
            rest = threading.Thread(target=deque, args=(process.stderr, 0), daemon=True)
            rest.start()
            yield
        finally:
            process.terminate()
            if rest is None:
                process.communicate()
            else:
                process.wait()
                rest.join()  # it reads until the end
