"""`usmctl replay` for tests: a trace, a call in this process, and a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from usmd.ctl.cli import main

TRACE: Final = "".join(f"{number * number % 61}\n" for number in range(2000))
USMCTL: Final = [sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())"]


def written(folder: Path) -> Path:
    """The trace as a file."""
    path = folder / "squares.txt"
    path.write_text(TRACE)
    return path


def replay(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    """Exit code and output of a call."""
    code = main(["replay", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err
