"""Programs in processes that are forked from a server that has imported them: a start costs no imports.

The server is multiprocessing's, one for each test process; it has imported usmd, and started nothing. A user starts a
fresh interpreter; tests of that (arguments, locales, descriptors, exit) do so with subprocess.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self, TextIO, cast

from tests.support import delays, patience

_PRELOADED = ["tests.support.preloaded"]


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    # As usmd does before it imports grpc: else grpc writes lines of its own to stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return context


def _run(
    program: Callable[..., object],
    arguments: tuple[Any, ...],
    environ: dict[str, str],
    folder: str,
    streams: dict[int, Connection],
) -> None:
    """In the new process: set it up, and run the program."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, stream in streams.items():
        os.dup2(stream.fileno(), number)
        stream.close()
    # The server's streams have its own descriptors and its buffering.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    atexit._clear()  # drops the server's functions
    patience.be_patient()
    delays.at_start()
    delays.inject_from_environment()
    try:
        program(*arguments)
    except Exception as error:
        # Not through the stream, because the process ends without a flush.
        os.write(2, traceback.format_exc().encode())
        raise SystemExit(1) from error
    finally:
        atexit._run_exitfuncs()  # a forked process ends without them


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a Python file as `python path arguments` does."""
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


def run_code(code: str, arguments: Sequence[str] = (), filtered: str = "") -> None:
    """Run a program as `python -W filtered -c code arguments` does, but for the end of its interpreter."""
    if filtered:
        warnings.simplefilter(filtered)  # type: ignore[arg-type]
    sys.argv = ["-c", *arguments]
    sys.path.insert(0, "")
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)


class ForkedProcess:
    """A process that runs `program(*arguments)`, with the interface of subprocess.Popen with text streams.

    `stderr` is a pipe, and so are `stdin` and `stdout` on request; else stdin is /dev/null, and stdout is the test
    process's. `given`: descriptors in their place, by number. Arguments are pickled, which passes on sockets as well.
    """

    def __init__(
        self,
        program: Callable[..., object],
        *arguments: Any,
        environ: Mapping[str, str],
        stdin: bool = False,
        stdout: bool = False,
        given: Mapping[int, int] | None = None,
    ) -> None:
        theirs = {number: Connection(os.dup(each)) for number, each in (given or {}).items()}

        def pipe(number: int, mode: str) -> TextIO:
            reading, writing = os.pipe()
            ours, other = (writing, reading) if mode == "w" else (reading, writing)
            theirs[number] = Connection(other, readable=mode == "w", writable=mode == "r")
            return cast(TextIO, open(ours, mode, encoding="utf-8", errors="backslashreplace"))

        self.stdin = pipe(0, "w") if stdin else None
        self.stdout = pipe(1, "r") if stdout else None
        self.stderr = None if 2 in theirs else pipe(2, "r")
        self.args = [program.__name__, *map(str, arguments)]
        self._process = _context().Process(
            target=_run, args=(program, arguments, dict(environ), os.getcwd(), theirs), daemon=True
        )
        self._ended_with: int | None = None
        self._ending = threading.Lock()
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        for end in theirs.values():
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pipes and wait for its end, as subprocess.Popen does."""
        self.close()
        self.wait()

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal as a negative number; None while it runs."""
        with self._ending:
            if self._ended_with is None:
                self._ended_with = self._process.exitcode
                if self._ended_with is not None:
                    self._process.close()  # closes its descriptors now, not at a garbage collection
            return self._ended_with

    def poll(self) -> int | None:
        """`returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit code, or raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            with contextlib.suppress(ValueError):  # another thread has seen its end, and closed it
                self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended, and the server has reaped it
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, said: str = "", *, timeout: float | None = None) -> tuple[str, str]:
        """Say it and wait for its end; returns the rest of stdout and stderr, or raises subprocess.TimeoutExpired."""
        if self.stdin is not None and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(said)
                self.stdin.close()
        found: dict[str, str] = {}
        streams = {"out": self.stdout, "error": self.stderr}
        readers = [
            threading.Thread(target=lambda name=name, stream=stream: found.update({name: stream.read()}), daemon=True)
            for name, stream in streams.items()
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        self.close()
        return found.get("out", ""), found.get("error", "")

    def close(self) -> None:
        """Close the pipes."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def run_forked(
    program: Callable[..., object], *arguments: Any, environ: Mapping[str, str], seconds: float, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as subprocess.run does. `said`: its input. Raises subprocess.TimeoutExpired."""
    process = ForkedProcess(program, *arguments, environ=environ, stdin=bool(said), stdout=True)
    try:
        out, error = process.communicate(said, timeout=seconds)
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)
