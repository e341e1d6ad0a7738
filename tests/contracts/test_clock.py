"""The daemon's parts take their clock by constructor, so that one place of the daemon, or a test, sets it."""

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "usmd"
READS = re.compile(r"\btime\.(?:monotonic|time)\(\)|\bloop\.time\(\)")
CLOCK = SOURCES / "server" / "cpu_clock.py"
"""Is a clock itself, and is handed on like one."""
WALL = {SOURCES / "server" / name for name in ("watch.py", "admin_observing.py", "own_facts.py")}
"""Say when something was, for people."""


@pytest.mark.parametrize("part", ["core", "mechanism", "swap", "server"])
def test_no_part_reads_the_clock_by_itself(part):
    found = {
        f"{path.relative_to(SOURCES)}: {read}"
        for path in (SOURCES / part).rglob("*.py")
        if path != CLOCK
        for read in READS.findall(path.read_text(encoding="utf-8"))
        if not (read == "time.time()" and path in WALL)
    }
    assert found == set()
