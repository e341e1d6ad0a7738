"""Holds what usmctl writes for programs against its JSON schema."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator

from usmd.ctl.schema_command import COMMANDS, schema_for


@functools.cache
def validator(command: str) -> Draft202012Validator:
    """Of the documents of a command."""
    schema = schema_for(command)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def command_of(arguments: Sequence[str]) -> str:
    """The command in the arguments of a call, which begin with it."""
    return next(name for name in (" ".join(arguments[:2]), arguments[0]) if name in COMMANDS)


def check(arguments: Sequence[str], document: Any) -> None:
    """AssertionError unless a document is as the schema of its command says."""
    command = command_of(arguments)
    errors = [f"{error.json_path}: {error.message}" for error in validator(command).iter_errors(document)]
    assert errors == [], f"{command}: {errors}"
