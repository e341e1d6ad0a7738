"""The build of usmd: setuptools, and where a C compiler is, mypyc for the hot path.

With USMD_COMPILE=1 a wheel is compiled, and so is an installation that is not editable. In a checkout `make compiled`
compiles, and `make pure` removes that. Otherwise, and without a compiler, the package is the same Python.
`usmd/compiled.py` decides at import whether what was compiled is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import Extension, build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.build_ext import build_ext

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

NEEDS = ["mypy==2.4.1", "msgspec>=0.19", "xxhash>=3.5"]
"""What the compiled build needs. mypy is exact, because what mypyc accepts and generates differs by version."""
MODULES = ("usmd/core/*.py", "usmd/policies/*/*.py")
"""The modules that are compiled."""
INTERPRETED = (
    "usmd/core/allocation.py",
    "usmd/core/commands.py",
    "usmd/core/events.py",
    "usmd/core/hints.py",
    "usmd/core/report.py",
    "usmd/core/settings.py",
    "usmd/core/touches.py",
    "usmd/core/validate.py",
)
"""The modules among them that are not: those with classes of msgspec, which mypyc would make without their options, and
validate.py, which is called seldom and looks at everything."""
GROUP = "usmd.native"
"""The shared library of the compiled modules is GROUP__mypyc."""
MANIFEST = "usmd/compiled.json"
"""Names the compiled sources with their hashes, so that what was compiled from other sources is not used."""
OPTIONS = ["--config-file=", "--ignore-missing-imports", "--python-version=3.11"]
"""mypy's options: `make lint` checks types strictly; here they only decide what is generated."""


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What a wheel's build needs; mypy only where a compiled build is possible."""
    needs = list(build_meta.get_requires_for_build_wheel(config_settings))
    return needs + NEEDS if asked() and not why_not() else needs


def asked() -> bool:
    """Whether a wheel is to be compiled."""
    return os.environ.get("USMD_COMPILE") == "1"


def why_not() -> str:
    """Why the hot path cannot be compiled here; empty if it can."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler {compiler}"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "the headers of Python are not installed"
    return ""


def sources() -> list[str]:
    """The modules to compile."""
    found = (str(path) for pattern in MODULES for path in Path().glob(pattern) if path.name != "__init__.py")
    return sorted(set(found).difference(INTERPRETED))


def settings(arguments: list[str]) -> dict[str, Any]:
    """The arguments of `setup`, by those of setup.py."""
    # Not a module, but a handler of SIGBUS that lib_usm/sigbus.py loads; without a compiler the library does without.
    extensions: list[Extension] = [Extension("lib_usm._sigbus", ["lib_usm/sigbus.c"], optional=True)]
    must = "--inplace" in arguments
    if must or ("bdist_wheel" in arguments and asked()):
        reason = why_not()
        if not reason:
            from mypyc.build import mypycify  # only this build needs it

            try:
                extensions += mypycify([*OPTIONS, *sources()], group_name=GROUP, opt_level="3", debug_level="0")
            except SystemExit as error:  # mypycify has printed the reason
                reason = f"mypyc failed with exit status {error.code}"
        if reason and must:
            sys.exit(f"usmd cannot be compiled: {reason}")
        if reason:
            print(f"usmd is not compiled: {reason}", file=sys.stderr)
    return {"ext_modules": extensions, "cmdclass": {"build_ext": BuildExtensions}}


class BuildExtensions(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Builds all compiled modules, or none, and writes the manifest when they are there."""

    def run(self) -> None:
        """Build; a failure is one of the installation only if `make compiled` asked for it."""
        folder = Path() if self.inplace else Path(self.build_lib)
        (folder / MANIFEST).unlink(missing_ok=True)
        self.extensions: list[Extension]
        native = [each for each in self.extensions if not each.optional]
        if not native:
            super().run()
            return
        try:
            super().run()
        except Exception as error:
            if self.inplace:
                raise
            print(f"usmd is not compiled: {error}", file=sys.stderr)
            self.extensions = [each for each in self.extensions if each.optional]
            for each in native:
                Path(self.get_ext_fullpath(each.name)).unlink(missing_ok=True)
            super().run()
            return
        hashes = {source: hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in sources()}
        (folder / MANIFEST).write_text(json.dumps(hashes, indent=1) + "\n", encoding="ascii")

    def get_outputs(self) -> list[str]:
        """The built files, the manifest among them."""
        manifest = Path(self.build_lib, MANIFEST)
        return [*super().get_outputs(), *([str(manifest)] if manifest.is_file() else [])]
