"""Policies in files of a test's own, as operators name them: path/to/file.py:Class."""

import textwrap
from pathlib import Path


def write_policies(folder: Path, source: str, name: str = "policies.py") -> Path:
    """Write a module of policies that the daemon loads: one that only its owner may write. Indentation is taken off."""
    path = folder / name
    path.write_text(textwrap.dedent(source))
    path.chmod(0o644)
    return path
