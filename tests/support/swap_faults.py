"""A daemon whose swap file fails when the test says so: the test's side of tests/support/faulty_daemon.py."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.daemon import RunningDaemon, environment, running_daemon

FAILING = "tests.support.faulty_daemon:fail_as_told"


class SwapFaults:
    """Sets the faults of reads and writes of the swap files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: dict[str, dict[str, object]] = {}
        self._tell()

    def _tell(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._told))
        os.replace(fresh, self._path)

    def fail(self, operation: str, error: str, slots: list[int] | None = None, file: str | None = None) -> None:
        """Make `read` or `write` of these slots (None: of all) fail with an errno, given by name.

        `file`: the name of the swap file; None: of all.
        """
        self._told[operation] = {"error": error, "slots": slots, "file": file}
        self._tell()

    def hold_up(self, operation: str) -> None:
        """Make `read` or `write` wait until another call of `fail` or `end`."""
        self.fail(operation, "wait")

    def end(self) -> None:
        """End all faults."""
        self._told.clear()
        self._tell()


@contextlib.contextmanager
def daemon_with_faults(
    folder: Path,
    *flags: str,
    swap: str = "8MiB",
    exit_code: int | None = 0,
    mechanism: str = "userfaultfd",
    config: str | None = None,
) -> Iterator[tuple[RunningDaemon, SwapFaults]]:
    """A daemon with 1 MiB of memory and a swap file of this size with faults, which end before the daemon does."""
    faults = SwapFaults(folder / "faults.json")
    environ = environment(USMD_TEST_FAULTS=str(folder / "faults.json"))
    given = ("--memory", "1MiB", "--swap", f"file:{folder / 'swap'}:{swap}", *flags)
    with running_daemon(
        folder, *given, mechanism=mechanism, environ=environ, changes=(FAILING,), exit_code=exit_code, config=config
    ) as daemon:
        try:
            yield daemon, faults
        finally:
            faults.end()
