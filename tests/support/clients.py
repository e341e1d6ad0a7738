"""Client processes for end-to-end tests, among them the busy client of tests/e2e."""

from __future__ import annotations

import contextlib
import json
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tests.support.daemon import SECONDS, environment
from tests.support.forked import ForkedProcess, run_code, run_forked, run_script

_BUSY = Path(__file__).parents[1] / "e2e" / "busy_client.py"


def start_client(program: Path, *arguments: object, stdin: bool = False) -> ForkedProcess:
    """Start a client program of tests/e2e. Its stdout is a pipe; `stdin`: its stdin is one, too."""
    given = [str(argument) for argument in arguments]
    return ForkedProcess(run_script, str(program), given, environ=environment(), stdin=stdin, stdout=True)


def run_python(
    code: str, *arguments: object, said: str = "", filtered: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of a test to its end. `said`: its input; `filtered`: what becomes of warnings, as of `python -W`.

    It is forked. How an interpreter ends is tested with fresh ones.
    """
    given = [str(argument) for argument in arguments]
    code = textwrap.dedent(code)
    return run_forked(
        run_code, code, given, filtered, environ=environment(**environ), seconds=SECONDS, said=said
    )  # fmt: skip


class BusyClient:
    """A process that faults and writes without end."""

    def __init__(self, address: str, name: str, length: int, chunk: int) -> None:
        self.name = name
        self.process = start_client(_BUSY, address, name, length, chunk)

    def wait_busy(self) -> None:
        """Wait until it has written all of its memory once."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != "busy\n":
            _, complaint = self.process.communicate(timeout=90)
            raise AssertionError(f"client {self.name} said {line!r}: {complaint}")

    def error(self) -> tuple[str, str]:
        """Wait for its end; returns class and text of the error that ended it."""
        out, complaint = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, f"client {self.name}: {complaint}"
        found = json.loads(out)
        return found["error"], found["message"]

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def busy_clients(address: str, *names: str, length: int, chunk: int) -> Iterator[list[BusyClient]]:
    """Clients of these names, all busy. The end of the block kills them."""
    clients = [BusyClient(address, name, length, chunk) for name in names]
    try:
        for client in clients:
            client.wait_busy()
        yield clients
    finally:
        for client in clients:
            client.kill()
