"""Check that every source file has its test file: usmd/x/y.py has tests/usmd/x/test_y.py, likewise the other packages.

Exempt are files without code beyond a docstring, packages that only re-export, and generated code. What a test file
checks is for people to judge.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("usmd", "lib_usm", "usm_wire")
GENERATED = Path("usm_wire/pb")


def needs_test(source: Path) -> bool:
    """Whether the file at `source` has code of its own; raises SyntaxError when it is not Python."""
    body = ast.parse(source.read_text(encoding="utf-8"), str(source)).body
    code = [node for node in body if not _is_docstring(node)]
    if source.name == "__init__.py":
        code = [node for node in code if not _is_reexport(node)]
    return bool(code)


def expected_test(source: Path) -> Path:
    """Path of the test file of `source`; both relative to the repository."""
    return Path("tests") / source.with_name(f"test_{source.stem}.py")


def missing_tests(root: Path) -> list[tuple[Path, Path]]:
    """Sources under `root` without a test file, each with the path expected; relative to `root`, sorted."""
    sources = sorted(path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*.py"))
    return [
        (source, expected_test(source))
        for source in sources
        if not source.is_relative_to(GENERATED)
        and needs_test(root / source)
        and not (root / expected_test(source)).is_file()
    ]


def main(root: Path = ROOT) -> int:
    """Print what is missing and return the exit code: 1 when something is."""
    missing = missing_tests(root)
    for source, test in missing:
        print(f"{source} has no test file; expected is {test}")
    return 1 if missing else 0


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_reexport(node: ast.stmt) -> bool:
    """Whether `node` is an import, or sets a name of the language's own (`__all__`, `__version__`)."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom)


if __name__ == "__main__":
    sys.exit(main())
