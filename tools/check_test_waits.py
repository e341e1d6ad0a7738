"""Check that tests wait for conditions, not for time to pass, and not by loops of their own.

In tests/, outside of the files of EXEMPT, these are reported:

- sleep: time.sleep, asyncio.sleep of anything but 0, and waiting for a new Event that nothing sets. Use `wait_until`,
  `wait_equal` or `wait_until_async` of tests/support/waiting.py, or have the test control what it waits for.
- poll: a while loop that sleeps, even for 0 seconds. Use the same.
- clock: monotonic, time, perf_counter, process_time and thread_time of `time`. How long something takes depends on the
  machine; inject a clock.
- log: `.log` and `.stray` of a daemon, which have what was read so far. Use `expect`, `never`, `events` or `read_log`,
  which read all that the daemon has logged.

A line that ends in `# waits: REASON` is let through. Code in strings is not looked at.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXEMPT = ("tests/support/waiting.py", "tests/support/delays.py", "tests/support/daemon.py")
CLOCKS = {
    f"time.{name}{suffix}"
    for name in ("monotonic", "time", "perf_counter", "process_time", "thread_time")
    for suffix in ("", "_ns")
}
DAEMONS = {"daemon", "running", "served", "first", "second"}
_REASON = re.compile(r"# waits: \S")


def violations(source: str) -> Iterator[tuple[int, str]]:
    """Line and rule of each place in Python `source` that is reported; raises SyntaxError when it is not Python."""
    lines = source.splitlines()
    tree = ast.parse(source)
    names = _imported(tree)
    for node in ast.walk(tree):
        rule = _rule(node, names)
        if rule and not _REASON.search(lines[node.lineno - 1]):  # type: ignore[attr-defined]
            yield node.lineno, rule  # type: ignore[attr-defined]


def main(root: Path = ROOT) -> int:
    """Print what is reported of the tests under `root`, and return the exit code: 1 if there is anything."""
    found = 0
    for path in sorted((root / "tests").rglob("*.py")):
        relative = path.relative_to(root)
        if relative.as_posix() in EXEMPT:
            continue
        for line, rule in sorted(violations(path.read_text(encoding="utf-8"))):
            found += 1
            print(f"{relative}:{line}: {rule}: {_ADVICE[rule]}")
    return 1 if found else 0


_ADVICE = {
    "sleep": "a test waits for a condition, by tests/support/waiting.py, and not for time to pass",
    "poll": "a loop that looks again and again is tests/support/waiting.py's",
    "clock": "how long something takes depends on the machine; inject a clock, or wait for the condition",
    "log": "a daemon's log may come late; use expect, never, events or read_log",
}


def _imported(tree: ast.Module) -> dict[str, str]:
    """What names of `time` and `asyncio` are called in this module: `from time import sleep` makes it time.sleep."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name: each.name for each in node.names if each.name in ("time", "asyncio")}
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return names


def _called(node: ast.AST, names: dict[str, str]) -> str:
    """The full name of what is called, `time.sleep`; empty if it is no call of such a function."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Name):
        return names.get(function.id, "")
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        module = names.get(function.value.id, "")
        return f"{module}.{function.attr}" if module else ""
    return ""


def _is_sleep(node: ast.AST, names: dict[str, str], *, of_nothing: bool) -> bool:
    """Whether a node sleeps; `of_nothing`: also asyncio.sleep(0), which lets others run."""
    called = _called(node, names)
    if called == "asyncio.sleep" and isinstance(node, ast.Call):
        nothing = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        return of_nothing or not nothing
    return called == "time.sleep" or _waits_for_nothing(node)


def _waits_for_nothing(node: ast.AST) -> bool:
    """Whether a node is `Event().wait(…)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "wait"):
        return False
    waited = node.func.value
    return isinstance(waited, ast.Call) and ast.unparse(waited.func) in ("Event", "threading.Event", "asyncio.Event")


def _rule(node: ast.AST, names: dict[str, str]) -> str:
    """The rule that a node breaks; empty: none."""
    if isinstance(node, ast.While):
        inside = (each for part in (node.test, *node.body) for each in ast.walk(part))
        return "poll" if any(_is_sleep(each, names, of_nothing=True) for each in inside) else ""
    if _is_sleep(node, names, of_nothing=False):
        return "sleep"
    if _called(node, names) in CLOCKS:
        return "clock"
    if isinstance(node, ast.Attribute) and node.attr in ("log", "stray") and isinstance(node.value, ast.Name):
        return "log" if node.value.id in DAEMONS else ""
    return ""


if __name__ == "__main__":
    sys.exit(main())
