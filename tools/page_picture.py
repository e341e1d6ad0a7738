"""Takes pictures of the live page of a usmd whose clients need more memory than it has: docs/page.png and others.

    .venv/bin/python -m tools.page_picture docs/page.png [--all FOLDER]

The picture is of a wide screen in light colours; `--all` takes those of wide and narrow screens in light and dark.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.chromium import Chromium
from tools.own_daemon import OwnDaemon, running

CLIENTS = (("web-cache", 24, 0.5), ("search-index", 12, 0.3), ("batch-7", 8, 0.9))
"""Names, MiB, and how far from the first page touches spread."""
LIMITS = """
[[policy.rules]]
name = "batch-7"
memory_max = "4MiB"
memory_weight = 50
max_regions = 8
max_faults = 32
[[policy.users]]
uid = {uid}
max_sessions = 8
memory_min = "2MiB"
memory_weight = 200
max_regions = 64
max_faults = 256
"""
READINGS = 30
SCREENS = ((1600, 1000), (1400, 1000), (800, 1000), (360, 800))
TOUCH = "--touch"


def touch(address: str, name: str, mib: int, spread: float) -> None:
    """Touch pages at random, most of them near the first, until the daemon ends."""
    import lib_usm

    with lib_usm.connect(address, name=name) as client:
        table, index = client.mmap(mib << 20, name="table"), client.mmap(1 << 20, name="index")
        client.usm_hint(index, "PRIORITY=HIGH; EVICTION=DENY")
        chance, pages = random.Random(name), len(table) // 4096
        while True:
            for _ in range(50):
                page = int(min(abs(chance.gauss(0, spread)), 0.999) * pages)
                if chance.random() < 0.3:
                    table.write(page * 4096, b"written")
                else:
                    table.read(page * 4096, 8)
                index.write(chance.randrange(256) * 4096, b"word")


@contextmanager
def clients(daemon: OwnDaemon) -> Iterator[None]:
    """Clients of a daemon that `touch` their pages, each a process, during the block."""
    with ExitStack() as stack:
        for name, mib, spread in CLIENTS:
            client = subprocess.Popen(
                [sys.executable, "-m", "tools.page_picture", TOUCH, daemon.address, name, str(mib), str(spread)],
                stderr=subprocess.DEVNULL,
            )
            stack.callback(client.wait)
            stack.callback(client.kill)
        yield


def take(picture: Path, folder: Path | None) -> None:
    """Start a daemon, its clients and a browser, and take the pictures."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    flags = ("--memory", "16MiB", "--swap", "memory:64MiB", "--page-listen", f"127.0.0.1:{port}")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(LIMITS.format(uid=os.getuid()))
        config.flush()
        _take(picture, folder, ("--config", config.name, *flags), port)


def _take(picture: Path, folder: Path | None, flags: tuple[str, ...], port: int) -> None:
    with running(*flags) as daemon, clients(daemon), Chromium() as browser:
        browser.show(*SCREENS[0])
        browser.open(f"http://127.0.0.1:{port}/")
        browser.until(f"return points.length >= {READINGS} && last.evictions.length", seconds=600)
        browser.picture(picture)
        for width, height in SCREENS if folder else ():
            for dark in (False, True):
                browser.show(width, height, dark=dark)
                browser.until("return document.readyState === 'complete'")
                browser.picture(Path(str(folder)) / f"{width}-{'dark' if dark else 'light'}.png")


def main(arguments: list[str]) -> int:
    """Run the command."""
    if arguments[:1] == [TOUCH]:
        touch(arguments[1], arguments[2], int(arguments[3]), float(arguments[4]))
        return 0
    parser = argparse.ArgumentParser(prog="tools.page_picture", description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="take all the pictures too, into this folder")
    given = parser.parse_args(arguments)
    take(given.picture, given.all)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
