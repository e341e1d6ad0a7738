"""Every event has its level in one table, which the docs repeat, and no place in the code has one of its own."""

import ast
import functools
import logging
import re
from pathlib import Path

import pytest

from usmd.event_levels import LOG_ONLY, NOTICES, UNLOGGED, level_of

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "usmd").rglob("*.py"))
NAMES = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error", UNLOGGED: "watch only"}
REPORTERS = {"event": "log", "notice": None, "Notice": None}
"""Functions that report an event, its kind first, and the module that they must be called on."""


def table_of(heading):
    """Event → level, of the table of docs/operating.md whose first column is headed so."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    rows = text.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    found = {}
    for row in rows:
        events, level = (cell.strip() for cell in row.strip("|").split("|")[:2])
        found |= dict.fromkeys(re.findall(r"`(\w+)`", events), level)
    return found


@pytest.mark.parametrize(("heading", "levels"), [("Log alone", LOG_ONLY), ("Log and watch", NOTICES)])
def test_the_documentation_has_the_same_events_at_the_same_levels(heading, levels):
    assert table_of(heading) == {event: NAMES[level] for event, level in levels.items()}


def kinds(argument):
    """The texts that an expression may be; None among them for another expression."""
    if isinstance(argument, ast.IfExp):
        return kinds(argument.body) | kinds(argument.orelse)
    return {argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None}


@functools.cache
def nodes_of(path):
    """All nodes of a module."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def reports(nodes):
    """The kinds of events that a module reports, and the places where the kind is not written down."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if name not in REPORTERS or not node.args:
            continue
        module = REPORTERS[name]
        owner = called.value if isinstance(called, ast.Attribute) else None
        if module is not None and not (owner is None or (isinstance(owner, ast.Name) and owner.id == module)):
            continue
        for kind in kinds(node.args[0]):
            yield kind, node.lineno


def test_every_event_that_is_reported_is_in_the_table_and_every_one_in_the_table_is_reported():
    found, open_ones = set(), []
    for path in SOURCES:
        for kind, line in reports(nodes_of(path)):
            if kind is None:
                open_ones.append(f"{path.relative_to(ROOT)}:{line}")
            else:
                found.add(kind)
    # A notice on its way to the log or a watcher, which was made elsewhere.
    assert [each.rsplit(":", 1)[0] for each in open_ones] == ["usmd/core/state.py", "usmd/server/watch.py"], open_ones
    assert found | {"log_lines_lost"} == LOG_ONLY.keys() | NOTICES.keys()
    assert '_render("log_lines_lost"' in (ROOT / "usmd" / "log.py").read_text(encoding="utf-8")


def imported(nodes):
    """The packages that a module imports."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_one_module_has_a_logger_and_one_other_knows_levels():
    found = {
        str(path.relative_to(ROOT)): packages
        for path in SOURCES
        if (packages := {"structlog", "logging", "warnings"} & set(imported(nodes_of(path))))
    }
    silences_matplotlib = {"usmd/ctl/curve_plot.py": {"logging", "warnings"}}
    assert found == {
        "usmd/log.py": {"structlog", "logging"},
        "usmd/event_levels.py": {"logging"},
        **silences_matplotlib,
    }


def test_an_event_of_no_table_is_seen():
    assert level_of("never heard of") == logging.WARNING
