"""A real daemon for tests: `python -m usmd serve` as a subprocess, its log, its operators' tools, and its end.

Covers start, the `ready` line, the log as parsed JSON lines, usmctl and the admin calls, signals and exit codes.
Nothing here waits by sleeping but `wait_until`, which polls a condition with a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from usmd.ctl.connect import Admin

_GRPC = "grpc._cython.cygrpc"
START_SECONDS = 20.0
STOP_SECONDS = 20.0
USMCTL = (sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())")
USMD = (sys.executable, "-m", "usmd", "serve")

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], what: str, seconds: float = 10.0) -> _T:
    """Return what `condition` returns once that is true; AssertionError, naming the last value, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last: {found!r}")
        time.sleep(0.005)
    return found


def wait_equal(get: Callable[[], _T], wanted: _T, what: str, seconds: float = 10.0) -> None:
    """Wait until `get` returns `wanted`; AssertionError, with what it returned instead, after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := get()) != wanted:
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; wanted {wanted!r}, last: {found!r}")
        time.sleep(0.005)


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process without what would lead usmd, usmctl or lib_usm elsewhere, and `changes`."""
    dropped = ("USM_ADDRESS", "USM_ADMIN_ADDRESS", "NOTIFY_SOCKET")
    return {key: value for key, value in os.environ.items() if key not in dropped} | changes


class RunningDaemon:
    """A daemon process. `log` has the JSON lines of its stderr so far, `stray` the lines that are no JSON."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str], program: Sequence[str] = USMD) -> None:
        self.log: list[dict[str, Any]] = []
        self.stray: list[str] = []
        self.address = ""
        self.admin_address = ""
        self._admin: Admin | None = None
        self._opened = contextlib.ExitStack()
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*program, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(environ)
        )
        self._reader = threading.Thread(target=self._read, name="daemon-log", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.stray.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for the `ready` line and take the addresses from it."""
        ready = self.wait_for("ready", seconds=seconds)
        self.address, self.admin_address = ready["socket"], ready["admin_socket"]

    def events(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The log lines of this event so far that have these fields."""
        wanted = {"event": event, **fields}
        return [line for line in list(self.log) if wanted.items() <= line.items()]

    def wait_for(self, event: str, seconds: float = START_SECONDS, **fields: object) -> dict[str, Any]:
        """Return the first log line of this event with these fields; AssertionError when the log ends before it."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: bool(self.events(event, **fields)) or self._ended, seconds)
        found = self.events(event, **fields)
        assert found, f"no {event!r} in the log ({'ended' if arrived else f'{seconds:g} s'}): {self.log} {self.stray}"
        return found[0]

    @property
    def admin(self) -> Admin:
        """The admin calls without the start of a process for each; for polling."""
        if self._admin is None:
            self._admin = self._opened.enter_context(Admin(Path(self.admin_address.removeprefix("unix:"))))
        return self._admin

    def counters(self) -> dict[str, int]:
        """The daemon's counters by name."""
        return dict(self.admin.status().counters)

    def run_usmctl(self, *arguments: str, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run usmctl against this daemon; whatever it exits with."""
        return subprocess.run(
            [*USMCTL, "--address", self.admin_address, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, env=environment(), check=False,
        )  # fmt: skip

    def usmctl(self, *arguments: str) -> Any:
        """Run usmctl with `--format json`; return what it printed, parsed. AssertionError unless it exits with 0."""
        done = self.run_usmctl("--format", "json", *arguments)
        assert done.returncode == 0, f"usmctl {arguments}: {done.returncode} {done.stderr}"
        return json.loads(done.stdout)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal; nothing when the daemon has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end of the daemon and of its log; return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        """End the process by force if it still runs, and give everything back."""
        self._opened.close()
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
    program: Sequence[str] = USMD,
) -> Iterator[RunningDaemon]:
    """Serve with its sockets and state in `folder`, from the `ready` line on, until SIGTERM at the end of the block.

    `config`: text of a TOML file. `places` False: no flag says where, so that the defaults of `environ` hold.
    `exit_code`: what it must exit with; None leaves that, and the end of the process, to the caller.
    `mechanism`: real memory is what the tests that name it are about; "" gives no flag. `program`: what is run instead
    of usmd, with the same flags, for tests that break it on purpose.
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
    daemon = RunningDaemon(arguments, environment() if environ is None else environ, program)
    try:
        daemon.wait_ready()
        yield daemon
        if exit_code is not None:
            daemon.signal(signal.SIGTERM)
            code = daemon.wait_exit()
            assert code == exit_code, f"usmd exited with {code}, not {exit_code}: {daemon.log} {daemon.stray}"
            # A traceback of any kind, also one that the event loop logs, is of a defect.
            # What gRPC logs of itself when a client is gone in the middle of a call is none of usmd's.
            defects = [line for line in daemon.log if "exception" in line and line.get("logger") != _GRPC]
            assert not defects, f"defects of usmd: {defects}"
            assert not daemon.stray, f"lines that are no JSON on stderr: {daemon.stray}"
    finally:
        daemon.close()
