"""The wire contract: everything in it is explained, and its names follow the package's version."""

import re
from pathlib import Path

import pytest

PROTO = Path(__file__).resolve().parents[2] / "proto"
FILES = sorted(PROTO.rglob("*.proto"))
DECLARATION = re.compile(r"\s*(message|enum|service|rpc|oneof)\s|\s*[\w.<>, ]+\s\w+ = \d+;")


def unexplained(text):
    """Declarations whose line before is no comment."""
    lines = text.splitlines()
    return [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if DECLARATION.match(line) and not before.strip().startswith("//")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_message_field_and_call_has_a_comment(path):
    text = path.read_text()
    assert len(DECLARATION.findall(text)) > 10
    assert unexplained(text) == []


def test_a_field_without_a_comment_is_found():
    assert unexplained("// A thing.\nmessage Thing {\n  uint32 size = 1;\n}\n") == ["uint32 size = 1;"]


def test_the_package_is_versioned_and_is_the_folder():
    assert FILES
    for path in FILES:
        folder = ".".join(path.parent.relative_to(PROTO).parts)
        assert folder == "usm.v1"
        assert f"package {folder};" in path.read_text()
