"""The build of usmd: setuptools, and where a C compiler is, mypyc for the hot path.

A wheel is compiled, and so is an installation that is not editable, unless there is no C compiler or USMD_PURE=1; then
the package is the same Python. With USMD_PURE=0 the build fails instead. In a checkout, and thus in an editable
installation, `make compiled` compiles, and `make pure` removes that. `usmd/compiled.py` decides at import whether what
was compiled is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
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
PACKAGE = "usmd"
MANIFEST = f"{PACKAGE}/compiled.json"
"""Names the compiled sources with their hashes, so that what was compiled from other sources is not used. In a wheel
without compiled modules it has the reason."""
LIBUSM = "lib_usm.native.libusm"
"""The library for programs in C. Its file has that name alone, because linkers and programs look for it."""
VARIABLE = "USMD_PURE"
OPTIMISATION = "3"
OPTIONS = ["--config-file=", "--ignore-missing-imports", "--python-version=3.11"]
"""mypy's options: `make lint` checks types strictly; here they only decide what is generated."""


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What a wheel's build needs; mypy only where a compiled build is possible."""
    needs = list(build_meta.get_requires_for_build_wheel(config_settings))
    return needs if why_not() else needs + NEEDS


def why_not() -> str:
    """Why the hot path cannot be compiled here, or shall not be; empty if it can."""
    if os.environ.get(VARIABLE) == "1":
        return f"{VARIABLE}=1 when it was installed"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text("#include <Python.h>\n", encoding="ascii")
        includes = [f"-I{sysconfig.get_paths()[each]}" for each in ("include", "platinclude")]
        command = [*compiler, *includes, "-c", str(source), "-o", str(Path(folder, "try.o"))]
        try:
            tried = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            return f"there is no C compiler {compiler[0]} ({error.strerror})"
    if tried.returncode:
        said = tried.stderr.strip().partition("\n")[0] or f"exit status {tried.returncode}"
        return f"the C compiler {compiler[0]} cannot compile with Python.h: {said}"
    return ""


def sources() -> list[str]:
    """The modules to compile."""
    found = (str(path) for pattern in MODULES for path in Path().glob(pattern) if path.name != "__init__.py")
    return sorted(set(found).difference(INTERPRETED))


def settings(arguments: list[str]) -> dict[str, Any]:
    """The arguments of `setup`, by those of setup.py."""
    # Not modules, but a handler of SIGBUS that lib_usm/sigbus.py loads, a thread that lib_usm/taking_out.py begins, and
    # the library for programs in C; without a compiler there are none, and whoever wants one says so.
    extensions: list[Extension] = [
        Extension("lib_usm._sigbus", ["lib_usm/sigbus.c"], optional=True),
        Extension(
            "lib_usm._taking_out",
            ["lib_usm/taking_out.c"],
            depends=["lib_usm/native/raw.h", "lib_usm/native/taking_out.h"],
            optional=True,
        ),
        Extension(
            LIBUSM,
            sorted(str(path) for path in Path("lib_usm/native").glob("*.c")),
            depends=sorted(str(path) for path in Path("lib_usm/native").glob("*.h")),
            extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
            extra_link_args=["-Wl,-soname,libusm.so", "-Wl,-z,now", "-ldl"],
            optional=True,
        ),
    ]
    must = "--inplace" in arguments or ("bdist_wheel" in arguments and os.environ.get(VARIABLE) == "0")
    reason = ""
    if must or "bdist_wheel" in arguments:
        native, reason = _native()
        extensions += native
        if reason and must:
            sys.exit(f"usmd cannot be compiled: {reason}")
    command = type("BuildExtensions", (BuildExtensions,), {"reason": reason, "must": must})
    return {"ext_modules": extensions, "cmdclass": {"build_ext": command}}


def _native() -> tuple[list[Extension], str]:
    """The compiled modules, as C; or none, and why."""
    reason = why_not()
    if reason:
        return [], reason
    try:
        from mypyc.build import mypycify  # only this build needs it

        return mypycify([*OPTIONS, *sources()], group_name=GROUP, opt_level=OPTIMISATION, debug_level="0"), ""
    except SystemExit as error:  # mypycify has printed the reason
        return [], f"mypyc failed with exit status {error.code}"
    except Exception as error:  # noqa: BLE001  # a fault of mypyc must not keep usmd from being installed
        return [], f"mypyc failed: {error!r}"


class BuildExtensions(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Builds all compiled modules, or none, and writes the manifest.

    `reason`: why there are none, if a wheel is to say so. `must`: a failure is one of the build.
    """

    reason = ""
    must = False

    def run(self) -> None:
        """Build."""
        folder = Path() if self.inplace else Path(self.build_lib)
        (folder / MANIFEST).unlink(missing_ok=True)
        self.extensions: list[Extension]
        native = [each for each in self.extensions if not each.optional]
        if native:  # a module that is not compiled any more would look for itself in the new library
            for each in (folder / PACKAGE).rglob("*.so"):
                each.unlink()
        try:
            super().run()
        except Exception as error:
            if self.must or not native:
                raise
            self.reason = str(error)
            self.extensions = [each for each in self.extensions if each.optional]
            for each in native:
                Path(self.get_ext_fullpath(each.name)).unlink(missing_ok=True)
            super().run()
        manifest: dict[str, object] = {}
        if self.reason:
            print(f"usmd is not compiled: {self.reason}", file=sys.stderr)
            manifest = {"reason": self.reason}
        elif native:
            hashes = {source: hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in sources()}
            manifest = {"sources": hashes}
        if manifest:
            (folder / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="ascii")

    def get_ext_filename(self, fullname: str) -> str:
        """The path of the file of an extension, which may come without its package."""
        if fullname.rpartition(".")[2] == LIBUSM.rpartition(".")[2]:
            return f"{fullname.replace('.', '/')}.so"
        return str(super().get_ext_filename(fullname))

    def get_outputs(self) -> list[str]:
        """The built files, the manifest among them."""
        manifest = Path(self.build_lib, MANIFEST)
        return [*super().get_outputs(), *([str(manifest)] if manifest.is_file() else [])]
