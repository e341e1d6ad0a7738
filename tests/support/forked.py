"""Programs in processes that are forked from a server which has imported them: a start costs no imports.

The server is multiprocessing's, one for each test process; it has imported usmd, and started nothing. A program of the
user's own is a fresh interpreter; tests of that (arguments, locales, descriptors, exit) start one with subprocess.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

_PRELOADED = ["usmd.cli", "usmd.server.daemon", "usmd.ctl.cli"]


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    # usmd sets it before it imports grpc, which writes lines of its own else.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return context


def _run(
    program: Callable[..., None],
    arguments: tuple[Any, ...],
    environ: dict[str, str],
    folder: str,
    streams: Sequence[Connection],
) -> None:
    """In the new process: make it the program's own, and run it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, stream in zip((2, 1), streams, strict=False):
        os.dup2(stream.fileno(), number)
        stream.close()
    # The server's streams are of its own descriptors, and block-buffered or not as those were.
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    atexit._clear()  # what the server registered
    try:
        program(*arguments)
    finally:
        atexit._run_exitfuncs()  # a fork ends without them


class ForkedProcess:
    """A process that runs `program(*arguments)`, as subprocess.Popen has it: pid, poll, wait, signals, `returncode`.

    `stderr` is a pipe, and `stdout` too where it is asked for. Arguments are pickled; a socket is passed on by that.
    """

    def __init__(
        self,
        program: Callable[..., None],
        *arguments: Any,
        environ: Mapping[str, str],
        stdout: bool = False,
    ) -> None:
        ends = [os.pipe() for _ in range(1 + stdout)]
        theirs = [Connection(end, readable=False) for _, end in ends]
        self.stderr = open(ends[0][0], encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - as Popen
        self.stdout = open(ends[1][0], encoding="utf-8") if stdout else None  # noqa: SIM115
        self._process = _context().Process(target=_run, args=(program, arguments, dict(environ), os.getcwd(), theirs))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        for end in theirs:
            end.close()

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal as a negative number; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """`returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, seconds: float) -> tuple[str, str]:
        """Wait for its end; all of stdout and of stderr. Late, it is killed: subprocess.TimeoutExpired."""
        found: dict[str, str] = {}
        streams = {"out": self.stdout, "error": self.stderr}
        readers = [
            threading.Thread(target=lambda name=name, stream=stream: found.update({name: stream.read()}))
            for name, stream in streams.items()
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        try:
            self.wait(seconds)
        finally:
            self.kill()
            for reader in readers:
                reader.join()
            self.close()
        return found.get("out", ""), found["error"]

    def close(self) -> None:
        """Give back the pipes and what is kept of a process that has ended."""
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


def run_forked(
    program: Callable[..., None], *arguments: Any, environ: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as subprocess.run does."""
    process = ForkedProcess(program, *arguments, environ=environ, stdout=True)
    out, error = process.communicate(seconds)
    assert process.returncode is not None
    return subprocess.CompletedProcess([program.__name__, *map(str, arguments)], process.returncode, out, error)
