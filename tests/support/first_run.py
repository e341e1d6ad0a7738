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
    """Have two processes import a half of the tests each, if none was collected before and xdist will."""
    if sys.dont_write_bytecode or not config.getoption("numprocesses", None):
        return
    if next(TESTS.rglob("__pycache__/test_*-pytest-*.pyc"), None) is not None:
        return
    files = sorted(TESTS.rglob("test_*.py"), key=lambda path: path.stat().st_size)
    collecting = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "tests.imported_only", *half],
            cwd=TESTS.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for half in (files[::2], files[1::2])
    ]
    for each in collecting:
        each.wait()  # what cannot be imported is told by the run itself
