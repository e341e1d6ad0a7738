"""Takes a picture of `usmctl top` over a usmd whose clients need more memory than it has: docs/top.svg.

    .venv/bin/python -m tools.top_picture docs/top.svg

The screen is the real one, which Textual draws without a terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from contextlib import closing
from pathlib import Path

from rich.console import Console

from tools.own_daemon import running
from tools.page_picture import clients
from usmd.ctl.top.app import Settings, TopApp
from usmd.ctl.top.reading import AdminSource, Reading, Source, Wanted

READINGS = 20
SIZE = (100, 24)
"""Columns and lines."""
_ELSEWHERE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts that the picture would load from elsewhere."""


class _Counted:
    """Readings of a source. `enough` is set once the screen has drawn so many: when it asks for the next one."""

    def __init__(self, source: Source, readings: int) -> None:
        self._source = source
        self._left = readings
        self.enough = asyncio.Event()

    async def read(self, wanted: Wanted) -> Reading:
        """Read now."""
        if not self._left:
            self.enough.set()
        self._left -= 1
        return await self._source.read(wanted)

    def close(self) -> None:
        """End the connection."""
        self._source.close()


async def picture(source: Source, first: Reading, size: tuple[int, int], readings: int, interval: float) -> str:
    """The screen of so many characters and lines, as SVG, after that many readings."""
    counted = _Counted(source, readings)
    console = Console(width=size[0], force_terminal=True, color_system="standard", highlight=False, markup=False)
    app = TopApp(counted, first, console, Settings(interval))
    async with app.run_test(size=size):
        await counted.enough.wait()
        return _ELSEWHERE.sub("", app.export_screenshot(title="usmctl top", simplify=True))


def take(place: Path) -> None:
    """Start a daemon and its clients, and take the picture."""
    with (
        running("--memory", "16MiB", "--swap", "memory:64MiB") as daemon,
        clients(daemon),
        closing(AdminSource(Path(daemon.admin_address.removeprefix("unix:")))) as source,
    ):
        place.write_text(asyncio.run(picture(source, source.read_now(Wanted()), SIZE, READINGS, 1.0)))


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="tools.top_picture", description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    take(parser.parse_args(arguments).picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
