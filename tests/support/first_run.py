"""The first run of the tests in a checkout: compiles them once, where each process of xdist would compile all of them.

pytest compiles a test itself, for assertions that show their values, when it collects the test.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def compile_tests(config: pytest.Config) -> None:
    """Have two processes collect a half of the tests each, if none was collected before and xdist will."""
    if sys.dont_write_bytecode or not config.getoption("numprocesses", None):
        return
    if next(TESTS.rglob("__pycache__/test_*-pytest-*.pyc"), None) is not None:
        return
    half = TESTS / "usmd"
    rest = sorted(path for path in TESTS.iterdir() if path.is_dir() and path != half and path.name != "__pycache__")
    collecting = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", *map(str, paths)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for paths in ([half], rest)
    ]
    for each in collecting:
        each.wait()  # what cannot be collected is told by the run itself
