"""Where a configuration comes from, so that it can be read again, checked, and shown with the origin of each value."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, get_type_hints

import msgspec

from usm_wire.places import is_own
from usmd.config import Config, load, read, read_file
from usmd.config_values import Gathered, show
from usmd.errors import ConfigError
from usmd.policy_rules import PolicyRules
from usmd.swap.kind import SwapKind
from usmd.swap.open import check_specs
from usmd.swap.tables import show_device
from usmd.text_files import read_text
from usmd.toml_lines import line_of, lines_of

DEFAULT: Final = "default"
FILE: Final = "file"
ENVIRONMENT: Final = "environment"
FLAG: Final = "flag"
PLACES: Final = ("server.socket", "server.admin_socket", "server.state_dir")
"""Keys whose defaults are in the runtime folder, which the environment may name."""
SECTIONS: Final = ("server", "memory", "metrics", "page", "policy")
VARIABLE: Final = "XDG_RUNTIME_DIR"
_TOML_LINE: Final = re.compile(r"at line (\d+)")


class Problem(NamedTuple):
    """A mistake: `key` and `line` are empty and None if they are not known."""

    message: str
    key: str
    line: int | None


class Setting(NamedTuple):
    """A value in force, as the file has it; `origin`: one of those above, `place`: which line, variable or flag."""

    key: str
    value: object
    origin: str
    place: str


class Source:
    """A file (None: none), and what the command line and the environment say beside it; arguments as of `load`."""

    def __init__(
        self,
        path: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        swap: Sequence[SwapKind] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.path = path
        self._overrides = dict(overrides or {})
        self._swap = tuple(swap)
        self._environ = environ

    def load(self) -> Config:
        """Read the configuration as it is now. Raises ConfigError."""
        return load(self.path, self._overrides, self._swap, self._environ)

    def problems(self, check_policies: Callable[[PolicyRules, Sequence[str] | None], object]) -> list[Problem]:
        """All that keeps usmd from using it: keys, values, conflicts, policies. No device or socket is opened.

        `check_policies` gets the names of devices too, if they are known, and raises ConfigError.
        """
        gathered = Gathered()
        with gathered.attempt():
            config, found, known = read(self.path, self._overrides, self._swap, self._environ)
            gathered.errors += found.errors
            names: list[str] | None = None
            if {"memory", "swap"} <= known:
                with gathered.attempt():
                    names = check_specs(config.swap, config.memory.page_size)
            with gathered.attempt():
                check_policies(config.policy, names)
        lines = self._lines()
        return sorted([self._problem(each, lines) for each in gathered.errors], key=lambda problem: problem.line or 0)

    def _problem(self, error: ConfigError, lines: Mapping[str, int]) -> Problem:
        message = str(error)
        found = _TOML_LINE.search(message) if not error.key else None
        line = int(found[1]) if found else line_of(error.key, dict(lines))
        given = error.key in self._overrides or (self._swap and error.key.startswith("swap["))
        return Problem(message, error.key, None if given else line)

    def settings(self) -> list[Setting]:
        """Every value in force. Raises ConfigError."""
        config = self.load()
        lines = self._lines()
        document = {} if self.path is None else read_file(self.path)
        return list(self._settings(config, document, lines))

    def _settings(self, config: Config, document: Mapping[str, object], lines: Mapping[str, int]) -> Iterator[Setting]:
        for section in SECTIONS:
            struct = getattr(config, section)
            table = document.get(section)
            for name, value in _values(struct):
                key = f"{section}.{name}"
                given = isinstance(table, dict) and name in table
                yield Setting(key, value, *self._origin(key, lines, given=given))
        swap = FLAG if self._swap else FILE if document.get("swap") else DEFAULT
        for number, spec in enumerate(config.swap):
            yield Setting(
                f"swap[{number}].kind", spec.device.kind, swap, self._place(swap, f"swap[{number}].kind", lines)
            )
            for name, value in _values(spec):
                key = f"swap[{number}].{name}"
                origin = DEFAULT if swap == FILE and key not in lines else swap
                yield Setting(key, value, origin, self._place(origin, key, lines))
        for array, rules in _arrays(config).items():
            for number, name, value in ((number, *each) for number, rule in enumerate(rules) for each in _values(rule)):
                if value is not None:
                    key = f"{array}[{number}].{name}"
                    yield Setting(key, value, FILE, self._place(FILE, key, lines))

    def _origin(self, key: str, lines: Mapping[str, int], *, given: bool) -> tuple[str, str]:
        if key in self._overrides:
            return FLAG, FLAGS.get(key, "")
        if given:
            return FILE, self._place(FILE, key, lines)
        base = Path(self._environ.get(VARIABLE, ""))
        if key in PLACES and base.is_absolute() and is_own(base, os.geteuid()):
            return ENVIRONMENT, f"${VARIABLE}"
        return DEFAULT, ""

    def _place(self, origin: str, key: str, lines: Mapping[str, int]) -> str:
        if origin == FLAG:
            return "--swap"
        line = line_of(key, dict(lines)) if origin == FILE else None
        return "" if line is None else f"{self.path}:{line}"

    def _lines(self) -> dict[str, int]:
        if self.path is None:
            return {}
        try:
            return lines_of(read_text(self.path))
        except (OSError, UnicodeDecodeError):  # the mistake says so itself
            return {}


def values_of(config: Config) -> dict[str, object]:
    """Every value by its key, as a file would have it; arrays of tables are lists of tables."""
    found = {f"{section}.{name}": value for section in SECTIONS for name, value in _values(getattr(config, section))}
    for array, rules in _arrays(config).items():
        found[array] = [_table(rule) for rule in rules]
    found["swap"] = [show_device(spec) for spec in config.swap]
    return found


def _arrays(config: Config) -> dict[str, Sequence[msgspec.Struct]]:
    """Arrays of tables in sections, by their keys."""
    return {"policy.rules": config.policy.rules, "policy.users": config.policy.users}


def _table(struct: msgspec.Struct) -> dict[str, object]:
    return {name: value for name, value in _values(struct) if value is not None}


FLAGS: Final = {
    "server.socket": "--socket",
    "server.admin_socket": "--admin-socket",
    "server.state_dir": "--state-dir",
    "server.uvloop": "--no-uvloop",
    "server.trace_events": "--trace-events",
    "server.log_format": "--log-format",
    "server.log_level": "--log-level",
    "metrics.listen": "--metrics-listen",
    "page.listen": "--page-listen",
    "memory.size": "--memory",
    "memory.page_size": "--page-size",
    "memory.mechanism": "--mechanism",
    "memory.fault_wakeup": "--fault-wakeup",
    "policy.alloc": "--alloc",
    "policy.evict": "--evict",
    "policy.oom": "--oom",
    "policy.cond": "--cond",
}
"""The flag of `usmd serve` that overrides a key."""


def _values(struct: msgspec.Struct) -> Iterator[tuple[str, object]]:
    """Fields of a section in the form that a file has; without arrays of tables."""
    hints = get_type_hints(type(struct), include_extras=True)
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if not (isinstance(value, tuple) and field.name in ("rules", "users")):
            yield field.name, show(hints[field.name], value)
