"""A real daemon for tests: `usmd serve` in a process of its own, its log as parsed JSON lines, usmctl, and its end.

`RunningDaemon.events`, `expect` and `never` read the log up to a mark, see `served`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import delays, documents, served
from tests.support.forked import ForkedProcess, run_forked
from tests.support.waiting import wait_equal, wait_until
from usmd.ctl.connect import Admin, AdminError

_GRPC = "grpc._cython.cygrpc"
SECONDS = 60.0
"""Deadline of everything that a daemon does. It is long, because a busy machine is slow."""
USMCTL = (sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())")
USMD = (sys.executable, "-m", "usmd", "serve")

__all__ = [
    "SECONDS",
    "USMCTL",
    "USMD",
    "RunningDaemon",
    "environment",
    "run_usmd",
    "running_daemon",
    "wait_equal",
    "wait_until",
]


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process with `changes`, without variables that lead usmd, usmctl or lib_usm elsewhere."""
    dropped = ("USM_ADDRESS", "USM_ADMIN_ADDRESS", "NOTIFY_SOCKET")
    return {key: value for key, value in os.environ.items() if key not in dropped} | changes


def run_usmd(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run usmd until it exits by itself, as for a start that is refused."""
    return run_forked(
        served.run_usmd, list(arguments), environ=environment() if environ is None else environ, seconds=SECONDS
    )


class RunningDaemon:
    """A daemon process. `log`: the JSON lines read so far from its stderr; `stray`: the lines that are not JSON."""

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        program: Sequence[str] | None = None,
        changes: Sequence[str] = (),
    ) -> None:
        self.log: list[dict[str, Any]] = []
        self.stray: list[str] = []
        self.address = ""
        self.admin_address = ""
        self._admin: Admin | None = None
        self._opened = contextlib.ExitStack()
        self._changed = threading.Condition()
        self._ended = False
        self._asked = 0
        self._marks = 0
        self._late = delays.of_environment().get("log", 0.0)
        self.process: subprocess.Popen[str] | ForkedProcess
        self._door: socket.socket | None = None
        if program is None:
            self._door, theirs = socket.socketpair()
            self.process = ForkedProcess(served.serve, list(arguments), theirs, list(changes), environ=environ)
            theirs.close()
        else:
            self.process = subprocess.Popen(
                [*program, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(environ)
            )
        stderr = self.process.stderr
        assert stderr is not None
        self._reader = threading.Thread(target=self._read, args=(stderr,), name="daemon-log", daemon=True)
        self._reader.start()

    def _read(self, lines: Iterable[str]) -> None:
        if self._late:
            lines = delays.late_lines(lines, self._late)
        for line in lines:
            with self._changed:
                try:
                    parsed = json.loads(line)
                except ValueError:
                    self.stray.append(line.rstrip("\n"))
                else:
                    if served.is_mark(parsed):
                        self._marks += 1
                    else:
                        self.log.append(parsed)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_ready(self, seconds: float = SECONDS) -> None:
        """Wait for the `ready` line, which has the addresses."""
        ready = self.wait_for("ready", seconds=seconds)
        self.address, self.admin_address = ready["socket"], ready["admin_socket"]

    def read_log(self, seconds: float = SECONDS) -> list[dict[str, Any]]:
        """Read all that the daemon has logged until now, and return `log`.

        Reads up to a mark that its loop writes on request, or up to the end of the log.
        """
        if self._ended:
            return list(self.log)
        if self._door is None:
            raise TypeError("only a forked daemon writes marks; use `wait_for`")
        self._asked += 1
        with contextlib.suppress(OSError):  # its door is closed: its log ends
            self._door.send(b"m")
        with self._changed:
            read = self._changed.wait_for(lambda: self._marks >= self._asked or self._ended, seconds)
        assert read, f"no mark in the log within {seconds:g} s: {self.log} {self.stray}"
        return list(self.log)

    def events(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """All log lines of this event with these fields until now."""
        self.read_log()
        return self._found(event, fields)

    def _found(self, event: str, fields: Mapping[str, object]) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}
        return [line for line in list(self.log) if wanted.items() <= line.items()]

    def wait_for(self, event: str, seconds: float = SECONDS, **fields: object) -> dict[str, Any]:
        """Wait for the first log line of this event with these fields; AssertionError if the log ends before it."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: bool(self._found(event, fields)) or self._ended, seconds)
        found = self._found(event, fields)
        assert found, f"no {event!r} in the log ({'ended' if arrived else f'{seconds:g} s'}): {self.log} {self.stray}"
        return found[0]

    def expect(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for the only log line of this event with these fields; AssertionError if there are several."""
        self.wait_for(event, **fields)
        found = self.events(event, **fields)
        assert len(found) == 1, f"{len(found)} lines of {event!r} where one was expected: {found}"
        return found[0]

    def never(self, event: str, **fields: object) -> None:
        """AssertionError if the daemon has logged this event with these fields until now."""
        found = self.events(event, **fields)
        assert not found, f"the daemon logged {event!r}: {found}"

    @property
    def admin(self) -> Admin:
        """The admin calls from this process, for polling."""
        if self._admin is None:
            self._admin = self._opened.enter_context(Admin(Path(self.admin_address.removeprefix("unix:"))))
        return self._admin

    def counters(self) -> dict[str, int]:
        """The daemon's counters by name."""
        return dict(self.admin.status().counters)

    def run_usmctl(self, *arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """Run usmctl against this daemon, whatever its exit code."""
        given = ["--address", self.admin_address, *arguments]
        return run_forked(served.run_usmctl, given, environ=environment(), seconds=seconds)

    def validate(self) -> None:
        """AssertionError if the daemon's memory violates an invariant; no check if the daemon drains."""
        try:
            answer = self.admin.validate()
        except AdminError:
            self.wait_for("draining")
            return
        assert not answer.violation_count, f"usmctl debug validate: {list(answer.violations)}"

    def start_usmctl(self, *arguments: str, **environ: str) -> ForkedProcess:
        """Start a usmctl against this daemon that runs until a signal ends it. Its stdout is a pipe."""
        given = ["--address", self.admin_address, *arguments]
        return ForkedProcess(served.run_usmctl, given, environ=environment(**environ), stdout=True)

    def usmctl(self, *arguments: str) -> Any:
        """Run usmctl with `--format json`; return what it printed, parsed.

        AssertionError unless it exits with 0 and its schema admits what it printed.
        """
        done = self.run_usmctl("--format", "json", *arguments)
        assert done.returncode == 0, f"usmctl {arguments}: {done.returncode} {done.stderr}"
        document = json.loads(done.stdout)
        documents.check(arguments, document)
        return document

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, unless the daemon has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait_exit(self, seconds: float = SECONDS) -> int:
        """Wait for the end of the daemon and of its log; returns its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        """Kill the process if it still runs, and release all resources."""
        self._opened.close()
        if self._door is not None:
            self._door.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextlib.contextmanager
def running_daemon(
    folder: Path,
    *flags: str,
    config: str | None = None,
    places: bool = True,
    environ: Mapping[str, str] | None = None,
    exit_code: int | None = 0,
    mechanism: str = "simulated",
    program: Sequence[str] | None = None,
    changes: Sequence[str] = (),
) -> Iterator[RunningDaemon]:
    """A daemon with sockets and state in `folder`, from its `ready` line until SIGTERM at the end of the block.

    Before SIGTERM its state is validated, as by `usmctl debug validate`.

    `config`: text of a TOML file. `places` False: no flags for paths, so the defaults of `environ` hold. `exit_code`:
    the exit code to check; None leaves that, and the end of the process, to the caller. `mechanism`: "" gives no flag.
    `program`: a command that starts a fresh interpreter, such as USMD; None forks a process that has usmd imported,
    which is quicker. `changes`: functions (`module:name`) that break a forked daemon on purpose, before it serves.
    """
    arguments = list(flags)
    if mechanism and "--mechanism" not in flags:
        arguments += ["--mechanism", mechanism]
    if places:
        for flag, name in (("--socket", "usmd.sock"), ("--admin-socket", "admin.sock"), ("--state-dir", "")):
            arguments += [] if flag in flags else [flag, str(folder / name)]
    if config is not None:
        path = folder / "usmd.toml"
        path.write_text(config, encoding="utf-8")
        arguments += ["--config", str(path)]
    daemon = RunningDaemon(arguments, environment() if environ is None else environ, program, changes)
    try:
        daemon.wait_ready()
        yield daemon
        if exit_code is not None:
            if daemon.process.poll() is None:
                daemon.validate()
            daemon.signal(signal.SIGTERM)
            code = daemon.wait_exit()
            assert code == exit_code, f"usmd exited with {code}, not {exit_code}: {daemon.log} {daemon.stray}"
            # Each traceback is a defect, also one that the event loop logs. Those of gRPC are not: it logs one when
            # a client dies during a call.
            defects = [line for line in daemon.log if "exception" in line and line.get("logger") != _GRPC]
            assert not defects, f"defects of usmd: {defects}"
            assert not daemon.stray, f"lines that are not JSON on stderr: {daemon.stray}"
    finally:
        daemon.close()
