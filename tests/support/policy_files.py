"""Files with a test's own policies, which operators name as path/to/file.py:Class."""

import textwrap
from pathlib import Path


def write_policies(folder: Path, source: str, name: str = "policies.py") -> Path:
    """Write a module of policies, dedented, that only its owner may write to: the daemon loads no other."""
    path = folder / name
    path.write_text(textwrap.dedent(source))
    path.chmod(0o644)
    return path
