"""What is known of a class that may be compiled: its docstring, and the parameters of its constructor.

A class that mypyc compiled has no docstring, and calls parameters positional that can be given by name.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys

_MARK = "__mypyc_attrs__"
"""Attribute of compiled classes."""


def is_compiled(found: type) -> bool:
    """Whether the class itself, and not only a base of it, is compiled."""
    return _MARK in vars(found)


def parameters_of(found: type) -> list[inspect.Parameter]:
    """The parameters of a class's constructor, without `self`.

    Raises what `inspect.signature` does, and what the class raises when it is asked.
    """
    for each in found.__mro__:
        if is_compiled(each) and not _own_constructor(found, each):
            return [_by_name(parameter) for parameter in inspect.signature(each).parameters.values()]
    return list(inspect.signature(found).parameters.values())


def _own_constructor(found: type, compiled: type) -> bool:
    """Whether a class has a constructor, or says what its parameters are, before a compiled base of it."""
    before = found.__mro__[: found.__mro__.index(compiled)]
    return any(not {"__init__", "__new__", "__signature__"}.isdisjoint(vars(each)) for each in before) or (
        type(found).__call__ is not type.__call__
    )


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD)
    return parameter


def docstring_of(found: type) -> str | None:
    """The docstring of a class; of a compiled one, from its source, or None if that is not there."""
    if not is_compiled(found):
        return found.__doc__
    package, _, name = found.__module__.rpartition(".")
    folders = getattr(sys.modules.get(package), "__path__", None)  # a compiled module's own `__file__` may be wrong
    if not folders:
        return None
    source = f"{next(iter(folders))}/{name}.py"
    for node in ast.parse("".join(linecache.getlines(source))).body:  # no lines if there is no such file
        if isinstance(node, ast.ClassDef) and node.name == found.__name__:
            return ast.get_docstring(node)
    return None
