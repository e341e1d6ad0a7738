"""Whether usmd's hot path runs compiled or as Python, which is decided once, when usmd is imported.

`tools/build_backend.py` compiles modules beside their sources, and writes a manifest with the hashes of the sources, or
with the reason why it compiled nothing. The compiled modules are used all or none, because they know each other's
classes. If a source has changed since, or USMD_PURE=1, usmd is imported from the sources alone. With USMD_PURE=0 that
is an ImportError instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

VARIABLE: Final = "USMD_PURE"
MANIFEST: Final = "compiled.json"
LIBRARY: Final = "native__mypyc"


class Build(NamedTuple):
    """What runs. `reason`: why it is not compiled; empty if it is."""

    compiled: bool
    reason: str

    @property
    def text(self) -> str:
        """In a few words, for people."""
        return "compiled" if self.compiled else f"pure Python: {self.reason}"


def decide(package: Path, environment: Mapping[str, str]) -> Build:
    """Whether the compiled modules of the package in a folder are used. Raises ImportError as the module says."""
    wanted = environment.get(VARIABLE, "")
    if wanted not in ("", "0", "1"):
        raise ImportError(f"{VARIABLE}={wanted}; allowed are 1 for pure Python, 0 for compiled modules, or nothing")
    reason = f"{VARIABLE}=1" if wanted == "1" else _why_unusable(package)
    if reason and wanted == "0":
        raise ImportError(f"{VARIABLE}=0, but the modules of usmd in {package} cannot be used compiled: {reason}")
    return Build(not reason, reason)


def _why_unusable(package: Path) -> str:
    """Why the compiled modules cannot be used; empty if they can."""
    try:
        manifest: dict[str, Any] = json.loads((package / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "it was not compiled"
    if "sources" not in manifest:
        return f"it was not compiled: {manifest.get('reason', 'what was compiled is of another usmd')}"
    hashes: dict[str, str] = manifest["sources"]
    if not any((package / f"{LIBRARY}{suffix}").is_file() for suffix in EXTENSION_SUFFIXES):
        return "it was compiled for another Python"
    for name, found in hashes.items():
        try:
            source = (package.parent / name).read_bytes()
        except FileNotFoundError:
            return f"it was compiled from other sources: {name} is gone"
        if hashlib.sha256(source).hexdigest() != found:
            return f"it was compiled from other sources: {name} has changed"
    return ""


class SourcesOnly:
    """A finder of modules that passes over compiled ones."""

    def __init__(self, package: str) -> None:
        self._prefix = f"{package}."
        self._finders: dict[str, FileFinder] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of the package by its source; None for other modules."""
        del target
        if not name.startswith(self._prefix) or path is None:
            return None
        for folder in path:
            finder = self._finders.get(folder)
            if finder is None:
                finder = self._finders[folder] = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))
            spec = finder.find_spec(name)
            if spec is not None:
                return spec
        return None

    def invalidate_caches(self) -> None:
        """Look at the folders again, as `importlib.invalidate_caches` asks for."""
        self._finders.clear()


_PACKAGE: Final = Path(__file__).parent
BUILD: Final = decide(_PACKAGE, os.environ)
"""What runs in this process."""
if not BUILD.compiled and any(_PACKAGE.glob(f"{LIBRARY}.*")):
    sys.meta_path.insert(0, SourcesOnly(__package__))
