"""Programs in C for tests, and programs with libusm preloaded, in the environment that `usmctl run` makes."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import SECONDS, RunningDaemon, environment
from tests.support.real_memory import require_real_memory
from usm_wire.native import WHY_NOT, library
from usmd.ctl.run_command import Fork, find_jemalloc, preloaded, variables

_DEFAULTS: dict[str, Any] = {
    "name": None, "memory_limit": None, "fhp": None, "hint": None, "evict": None, "min_size": "64K",
    "region_size": None,
    "require": True, "fork": Fork.REFUSE,
}  # fmt: skip


def need(found: Path | None, why_not: str) -> Path:
    """What a test needs; without it the test is skipped with the reason, or fails if $CI is set."""
    if found is None and os.environ.get("CI"):
        pytest.fail(f"CI must test this: {why_not}")
    if found is None:
        pytest.skip(why_not)
    return found


def require_native() -> Path:
    """The path of libusm, where its memory can be real."""
    require_real_memory()
    return need(library(), WHY_NOT)


def require_jemalloc() -> Path:
    """The path of jemalloc's library."""
    return need(find_jemalloc(), "there is no libjemalloc.so.2 here; `apt-get install libjemalloc2` brings it")


@functools.cache
def compiler() -> list[str]:
    """The C compiler."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def compiled(folder: Path, *sources: Path, options: Sequence[str] = ()) -> Path:
    """A program or library of C sources; a warning is an error."""
    to = folder / sources[0].stem
    command = [
        *compiler(),
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
        *map(str, sources),
        "-o",
        str(to),
        *options,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        need(None, f"there is no C compiler {command[0]}")
    assert done.returncode == 0, done.stderr
    return to


def linked() -> list[str]:
    """Options of the compiler for a program that uses libusm, as pkg-config reads them in usm.pc."""
    folder = require_native().parent
    lines = (folder / "usm.pc").read_text(encoding="ascii").splitlines()
    flags = [line.partition(":")[2] for line in lines if line.startswith(("Cflags:", "Libs:"))]
    return " ".join(flags).replace("${prefix}", str(folder)).split()


def managed(address: str, *, malloc: Path | None = None, **options: Any) -> dict[str, str]:
    """The environment in which a program is managed by the daemon at an address. `options`: those of `usmctl run`."""
    environ = environment(LC_ALL="C") | variables(socket=address, **(_DEFAULTS | options))
    environ["LD_PRELOAD"] = preloaded([each for each in (require_native(), malloc) if each], {})
    return environ


def run_managed(
    daemon: RunningDaemon | str, *command: object, malloc: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    address = daemon if isinstance(daemon, str) else daemon.address
    environ = managed(address, malloc=malloc, **options)
    return subprocess.run(
        list(map(str, command)),
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )


@contextlib.contextmanager
def started(daemon: RunningDaemon | str, *command: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until the end of the block, with pipes for its input and output."""
    address = daemon if isinstance(daemon, str) else daemon.address
    process = subprocess.Popen(
        list(map(str, command)), env=managed(address, **options), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()
