"""Check that no Python file has more than LIMIT lines: a longer one has two subjects. Generated code is exempt."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("usmd", "lib_usm", "usm_wire", "bench", "examples", "tools", "tests")
GENERATED = Path("usm_wire/pb")
LIMIT = 400


def long_files(root: Path) -> list[tuple[Path, int]]:
    """Files under `root` with more than LIMIT lines, each with their number; relative to `root`, sorted."""
    files = sorted(path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    counted = [(path, _lines(root / path)) for path in files if not path.is_relative_to(GENERATED)]
    return [(path, lines) for path, lines in counted if lines > LIMIT]


def main(root: Path = ROOT) -> int:
    """Print what is too long and return the exit code: 1 when something is."""
    found = long_files(root)
    for path, lines in found:
        print(f"{path} has {lines} lines; allowed are {LIMIT}: divide it by what it is about")
    return 1 if found else 0


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
