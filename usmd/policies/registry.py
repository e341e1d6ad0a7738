"""Policies by name: which exist, and how a specification such as `hint_aware(fallback=lru)` becomes a policy.

A specification is a name, optionally followed by parameters: `name(parameter=value, …)`. The name is in a table below,
or an entry point of an installed package in the group `usmd.policies.KIND`, or `path/to/file.py:Class`. A value is a
whole number, a decimal number, true or false, or text, which may itself be a specification.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import math
import re
from collections.abc import Container, Iterable, Iterator
from itertools import accumulate, chain
from types import ModuleType
from typing import Final, cast

from usmd.compiled_classes import docstring_of, parameters_of
from usmd.core.policy import AllocPolicy, ConditionalPolicy, EvictPolicy, OomPolicy, Policy
from usmd.core.view import MemoryView
from usmd.errors import EndsRun, InvalidArgument, InvalidSize, UnknownPolicy, UsmdError
from usmd.safe_repr import MAX_MESSAGE, MAX_SHOWN, cut, message_of, safe_repr
from usmd.sizes import parse_size

MAX_LENGTH: Final = 4096
"""Most characters of a specification."""
MAX_DEPTH: Final = 4
"""Most levels of nested specifications: each level may make several policies of the next."""
TABLES: Final[dict[str, dict[str, str]]] = {
    "alloc": {
        "async_aware": "usmd.policies.alloc.async_aware:AsyncAware",
        "first_fit": "usmd.policies.alloc.first_fit:FirstFit",
        "flexible_huge_pages": "usmd.policies.alloc.flexible_huge_pages:FlexibleHugePages",
        "prealloc": "usmd.policies.alloc.prealloc:Prealloc",
        "pte_magnet": "usmd.policies.alloc.pte_magnet:PteMagnet",
        "readahead": "usmd.policies.alloc.readahead:Readahead",
    },
    "evict": {
        "arc": "usmd.policies.evict.arc:Arc",
        "belady": "usmd.policies.evict.belady:Belady",
        "clock": "usmd.policies.evict.clock:Clock",
        "fifo": "usmd.policies.evict.fifo:Fifo",
        "hint_aware": "usmd.policies.evict.hint_aware:HintAware",
        "lfu": "usmd.policies.evict.lfu:Lfu",
        "lirs": "usmd.policies.evict.lirs:Lirs",
        "lru": "usmd.policies.evict.lru:Lru",
        "random": "usmd.policies.evict.random:Random",
        "s3_fifo": "usmd.policies.evict.s3_fifo:S3Fifo",
        "sieve": "usmd.policies.evict.sieve:Sieve",
        "slru": "usmd.policies.evict.slru:Slru",
        "two_q": "usmd.policies.evict.two_q:TwoQ",
        "w_tinylfu": "usmd.policies.evict.w_tinylfu:WTinyLfu",
    },
    "oom": {
        "freeze": "usmd.policies.oom.freeze:Freeze",
        "kill_largest": "usmd.policies.oom.kill_largest:KillLargest",
        "kill_lowest_priority": "usmd.policies.oom.kill_lowest_priority:KillLowestPriority",
        "refuse": "usmd.policies.oom.refuse:Refuse",
    },
    "cond": {
        "all_of": "usmd.policies.cond.all_of:AllOf",
        "demote": "usmd.policies.cond.demote:Demote",
        "none": "usmd.policies.cond.none:Nothing",
        "swap_back": "usmd.policies.cond.swap_back:SwapBack",
        "tiers": "usmd.policies.cond.tiers:Tiers",
        "trim": "usmd.policies.cond.trim:Trim",
    },
}

BUILT_IN: Final = {kind: frozenset(table) for kind, table in TABLES.items()}
"""Names of the policies that come with usmd, by kind."""

_BASES: Final[dict[str, type[Policy]]] = {
    "alloc": AllocPolicy,
    "evict": EvictPolicy,
    "oom": OomPolicy,
    "cond": ConditionalPolicy,
}
_GROUP: Final = "usmd.policies."
_FILE_LOADER: Final = "usmd.plug_ins"
"""Not imported here, because policies are pure: only a specification that names a file loads this module."""
_OWN: Final = "usmd.policies."
_LOADERS: Final = (__name__, _FILE_LOADER, "importlib")
"""Modules that a traceback skips in the search for the module at fault."""

_FILE: Final = r"[^\s(),=][^(),=]*\.py:[^\W\d]\w*"
_SPECIFICATION: Final = re.compile(rf"\s*({_FILE}|[^\W\d][\w.-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_PARAMETER: Final = re.compile(r"\s*([^\W\d]\w*)\s*=(.*)", re.DOTALL)
_SWITCHES: Final = {"true": True, "false": False}

Value = int | float | str | bool


def enter_packages(
    tables: dict[str, dict[str, str]], points: Iterable[importlib.metadata.EntryPoint]
) -> dict[tuple[str, str], str]:
    """Enter the policies of installed packages. If several have one name, the first stays; built-in ones always do.

    Returns the ones left out, by kind and name: target and package of each.
    """
    left_out: dict[tuple[str, str], str] = {}
    for point in points:
        kind = point.group.removeprefix(_GROUP)
        target = point.value.partition("[")[0].strip()
        if tables[kind].setdefault(point.name, target) != target:
            package = "a package" if point.dist is None else f"package {point.dist.name}"
            left_out[kind, point.name] = f"{target} of {package}"
    return left_out


_LEFT_OUT: Final = enter_packages(
    TABLES, chain.from_iterable(importlib.metadata.entry_points(group=_GROUP + kind) for kind in TABLES)
)


def is_file(specification: str) -> bool:
    """True if a policy is, or builds on, `path/to/file.py:Class`."""
    return ":" in specification


def parse(specification: str) -> tuple[str, dict[str, Value]]:
    """Name and parameters of a specification. Raises InvalidArgument if it is not well-formed, too long or too deep."""
    if len(specification) > MAX_LENGTH:
        raise InvalidArgument(
            f"policy {specification[:40]!r}… is written in {len(specification)} characters; allowed are {MAX_LENGTH}"
        )
    depth = max(accumulate((each == "(") - (each == ")") for each in specification), default=0)
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"policy {specification!r} is nested {depth} deep; allowed are {MAX_DEPTH}")
    match = _SPECIFICATION.fullmatch(specification)
    if match is None:
        raise InvalidArgument(
            f"policy {specification!r} cannot be read; write name or name(parameter=value, …), where the name may be "
            "path/to/file.py:Class"
        )
    parameters: dict[str, Value] = {}
    for part in _split(match[2] or "", specification):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None or parameter[1] in parameters:
            raise InvalidArgument(
                f"policy {specification!r}: {part.strip()!r} is not parameter=value, or is given twice"
            )
        parameters[parameter[1]] = _value(parameter[2].strip())
    return match[1], parameters


def _split(text: str, whole: str) -> list[str]:
    """The parts between commas outside parentheses. Raises InvalidArgument, which names `whole`."""
    parts: list[str] = [""]
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth != 0:
        raise InvalidArgument(f"policy {whole!r}: its parentheses do not match")
    return parts if text.strip() else []


def several(text: str) -> list[str]:
    """The specifications in a text, between commas outside parentheses. Raises InvalidArgument as `parse` does."""
    return [each.strip() for each in _split(text, text) if each.strip()]


def _value(text: str) -> Value:
    for convert in (int, float):
        try:
            number = convert(text)
            if math.isfinite(number):
                return number
        except (ValueError, OverflowError):
            continue
    return _SWITCHES.get(text, text.strip("\"'"))


def find(kind: str, specification: str) -> tuple[type[Policy], dict[str, Value]]:
    """Class and checked parameters of a specification, with nested ones checked too.

    Raises UnknownPolicy or InvalidArgument, which list what is allowed.
    """
    name, parameters = parse(specification)
    found = _load(kind, name)
    title = f"{kind} policy {name}"
    defaults = _defaults(title, found)
    for key, value in parameters.items():
        if key not in defaults:
            known = ", ".join(defaults) or "none"
            raise InvalidArgument(f"{title}: {key}={_written(value)}: it has no parameter {key!r}; it has {known}")
        if key in found.sizes and isinstance(value, str):
            value = _bytes(title, key, value)
        parameters[key] = _fitting(title, key, value, defaults[key])
        if key in found.builds_on:
            find(kind, str(value))
    return found, parameters


def names_of(kind: str, specification: str, allowed: Container[str]) -> Iterator[str]:
    """The names in a specification, nested ones too, up to the first that is not `allowed`: that one is not loaded.

    Raises UnknownPolicy or InvalidArgument.
    """
    name, parameters = parse(specification)
    yield name
    if name in allowed:
        found = _load(kind, name)
        for key in found.builds_on:
            if key in parameters:
                yield from names_of(kind, str(parameters[key]), allowed)


def _defaults(title: str, found: type[Policy]) -> dict[str, object]:
    """The parameters of a policy's constructor after the view, each with its default. Raises InvalidArgument."""
    try:
        _, *parameters = parameters_of(found)
    except Exception as error:  # the class may define its own signature, and raise anything in it
        raise InvalidArgument(
            f"{title} cannot be made: its constructor must take the view, then parameters with defaults"
        ) from error
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    for each in named:
        if each.default is each.empty:
            raise InvalidArgument(f"{title} cannot be made: parameter {each.name!r} of its constructor has no default")
    return {each.name: each.default for each in named}


def _fitting(title: str, key: str, value: Value, default: object) -> Value:
    """The value in its parameter's type. Raises InvalidArgument if it does not fit the type of the default."""
    for wanted in (bool, int, float, str):
        if isinstance(default, wanted):
            if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
                return value
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                return float(value)
            hint = ", which is true or false" if wanted is bool else ""
            raise InvalidArgument(
                f"{title}: {key}={_written(value)} is not of type {wanted.__name__}{hint}; its default is "
                f"{_written(default)}"
            )
    raise InvalidArgument(
        f"{title}: {key}={_written(value)}: {key!r} cannot be set, because its default, {safe_repr(default)}, is not "
        "an int, float, str or bool"
    )


def _bytes(title: str, key: str, text: str) -> int:
    """Bytes in a parameter that is a size. Raises InvalidArgument."""
    try:
        return parse_size(text)
    except InvalidSize as error:
        raise InvalidArgument(f"{title}: {key}: {error}") from error


def _written(value: object) -> str:
    """A value in the form of a specification."""
    return str(value).lower() if isinstance(value, bool) else safe_repr(value)


def _load(kind: str, name: str) -> type[Policy]:
    """The class of that name. Raises UnknownPolicy, and InvalidArgument if it cannot be loaded or is not a policy."""
    target = TABLES[kind].get(name, name if is_file(name) else None)
    if target is None:
        known = ", ".join(sorted(TABLES[kind]))
        file = f"; a policy in a file is named with its class: {name}:Class" if name.endswith(".py") else ""
        likely = difflib.get_close_matches(name.lower(), TABLES[kind], n=1, cutoff=0.83)  # mru is not meant as lru
        meant = f"did you mean {likely[0]}? " if likely else ""
        raise UnknownPolicy(f"{kind} policy {name!r} does not exist; {meant}there are {known}{file}")
    title = f"{kind} policy {name}" if name == target else f"{kind} policy {name} ({target})"
    place, _, attribute = target.rpartition(":")
    try:
        if is_file(name):
            module: ModuleType = importlib.import_module(_FILE_LOADER).load(place)
        else:
            module = importlib.import_module(place)
        found: object = getattr(module, attribute, None)
        problem = _problem(kind, module, attribute, found)
    except BaseException as error:  # the import of a module may raise anything
        if isinstance(error, EndsRun) or (isinstance(error, KeyboardInterrupt) and target.startswith(_OWN)):
            raise  # Ctrl-C: no module of usmd raises that
        raise InvalidArgument(f"{title} cannot be loaded: {_told(error)}") from error
    if problem:
        raise InvalidArgument(f"{title} {cut(problem, MAX_MESSAGE)}")
    return cast(type[Policy], found)


def _problem(kind: str, module: ModuleType, attribute: str, found: object) -> str:
    """Why `found` is not a policy of the kind; empty if it is."""
    base = _BASES[kind]
    if isinstance(found, type) and issubclass(found, base):
        left = {name for name in base.essential if getattr(found, name, None) is getattr(base, name)}
        missing = ", ".join(sorted(left.union(getattr(found, "__abstractmethods__", ()))))
        return f"does not define {missing}{_line(found)}" if missing else ""
    own = (
        name
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, base) and each.__module__ == module.__name__
    )
    known = ", ".join(own)
    there = f"its {kind} policies are {known}" if known else f"it defines no {kind} policy"
    if found is None:
        return f"cannot be loaded: {module.__file__} has no class {attribute}; {there}"
    return f"is not a subclass of {base.__name__}{_line(found)}; {there}"


def _line(found: object) -> str:
    """Where an object is defined, for a message: ` (file:line)`, or empty if that is unknown."""
    try:
        return f" ({inspect.getsourcefile(found)}:{inspect.getsourcelines(found)[1]})"  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""


def _told(error: BaseException) -> str:
    """The error of a failed load, with the file and line where it was raised, if known."""
    if isinstance(error, UsmdError):
        return message_of(error)
    if type(error) is SyntaxError and error.filename:
        return f"{cut(str(error.msg))} ({error.filename[-MAX_SHOWN:]}:{error.lineno})"
    trace, where = error.__traceback__, ""
    while trace is not None:
        frame = trace.tb_frame
        file, module = frame.f_code.co_filename, frame.f_globals.get("__name__")
        if module not in _LOADERS and not file.startswith("<frozen "):
            where = f" ({file[-MAX_SHOWN:]}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{message_of(error) if isinstance(error, ImportError) else safe_repr(error)}{where}"


def make(kind: str, specification: str, memory: MemoryView) -> Policy:
    """Make a policy for one process. Raises UnknownPolicy or InvalidArgument.

    A policy from a file enters its table when it is first made, so that operators see it among the others.
    """
    found, parameters = find(kind, specification)
    try:
        made = found(memory, **parameters)
    except UsmdError as error:  # raised by the policy, or by one that it builds on
        if type(error) in (InvalidArgument, UnknownPolicy) and error.args == (message_of(error),):
            raise
        raise InvalidArgument(message_of(error)) from error
    name, _ = parse(specification)
    if is_file(name):
        TABLES[kind].setdefault(name, name)
    return made


def summary(kind: str, name: str) -> str:
    """What a policy does, in one line: the first line of its docstring, or why it cannot be loaded.

    Names also a policy of an installed package that is not used, because the name is taken.
    """
    try:
        found, _ = find(kind, name)
        written: object = docstring_of(found)
        text = "not described"
        if type(written) is str and written:
            text = cut(written[:MAX_MESSAGE].strip().partition("\n")[0])
    except InvalidArgument as error:
        text = f"unusable: {error}"
    unused = _LEFT_OUT.get((kind, name))
    return f"{text} (not used, because the name is taken: {unused})" if unused else text
