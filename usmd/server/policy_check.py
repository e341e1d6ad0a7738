"""Checks whether a process could get a policy, before anything has begun or changed.

Each policy is made once, without a process, so that the user who names it gets the error of an invalid parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from usmd.config_values import Gathered
from usmd.core.fence import ANYTHING, place
from usmd.core.region import Process
from usmd.core.running import Call, Running
from usmd.core.settings import CoreSettings
from usmd.core.state import State
from usmd.core.view import MemoryView
from usmd.errors import ConfigError, InvalidArgument, UsmdError
from usmd.policies import registry
from usmd.policy_rules import PolicyRule, PolicyRules
from usmd.safe_repr import safe_repr


def check_policy(kind: str, specification: str, running: Running) -> None:
    """Make a policy for no process; raises UnknownPolicy or InvalidArgument if it cannot be made.

    `running` gets the mark of the call of its constructor.
    """
    settings = CoreSettings(frames=1, page_size=1, deny_budget=0, deny_budget_total=0)
    scratch = State(settings, [], registry.make, float)
    nobody = MemoryView(scratch, Process(0, "check", None, None, None))
    running.call = Call(0, kind)
    try:
        registry.make(kind, specification, nobody)
    except UsmdError:
        raise
    except ANYTHING as error:  # a policy's constructor may raise anything
        running.call = None
        raise InvalidArgument(
            f"{kind} policy {specification} cannot be made: {safe_repr(error)}{place(error)}; correct it, or name "
            "another"
        ) from error
    finally:
        running.call = None


def check_policies(rules: PolicyRules, device_names: Sequence[str | None] | None, running: Running) -> None:
    """Raise ConfigError, which names the key, if a process could not get a policy or device that is named.

    `device_names`: of the swap devices, by number; None: there is none of this number, or no device is known.
    """
    devices = [(str(number), name) for number, name in enumerate(device_names or ()) if name is not None]
    names = {each for names_of_one in devices for each in names_of_one}
    choices: list[tuple[str, PolicyRules | PolicyRule]] = [("policy", rules)]
    choices += [(f"policy.rules[{number}]", rule) for number, rule in enumerate(rules.rules)]
    gathered = Gathered()
    for where, choice in choices:
        for kind in registry.TABLES:
            specification = getattr(choice, kind)
            if specification is not None:
                with gathered.attempt():
                    _check_named(f"{where}.{kind}", kind, specification, running)
        if choice.swap is not None and device_names is not None and choice.swap not in names:
            key = f"{where}.swap"
            known = ", ".join(sorted(names))
            gathered.add(f"{key} = {choice.swap!r} is not a swap device; there are {known}", key)
    _check_choices(rules.choices or (), gathered)
    gathered.raise_any()


def _check_named(key: str, kind: str, specification: str, running: Running) -> None:
    """As `check_policy`, for a policy that the configuration names at `key`. Raises ConfigError."""
    try:
        check_policy(kind, specification, running)
    except UsmdError as error:
        raise ConfigError(f"{key}: {error}", key) from error


def _check_choices(choices: Collection[str], gathered: Gathered) -> None:
    """Add the errors of names that no alloc or evict policy has."""
    known = sorted({*registry.TABLES["alloc"], *registry.TABLES["evict"]})
    for name in choices:
        if name not in known and not registry.is_file(name):
            gathered.add(
                f"policy.choices: no alloc or evict policy is called {name!r}; there are {', '.join(known)}",
                "policy.choices",
            )


def check_choice(kind: str, specification: str, choices: Collection[str] | None) -> None:
    """Raise InvalidArgument or UnknownPolicy unless a client may choose a policy; `choices` as in the configuration."""
    allowed = registry.BUILT_IN[kind] if choices is None else choices
    for name in registry.names_of(kind, specification, allowed):
        if name not in allowed:
            known = ", ".join(sorted(set(allowed) & registry.TABLES[kind].keys())) or "none"
            raise InvalidArgument(
                f"{kind} policy {specification!r} cannot be chosen by a client: policy.choices of usmd's configuration "
                f"does not allow {name}; allowed are {known}"
            )


def stand_ins(rules: PolicyRules) -> tuple[str, str, str]:
    """The alloc, evict and oom policy that take the place of one that makes too many errors.

    They are the configuration's defaults. A default from a file is likely the one that errs, so usmd's own stands in.
    """
    builtin = PolicyRules()

    def choose(kind: str) -> str:
        chosen: str = getattr(rules, kind)
        return str(getattr(builtin, kind)) if registry.is_file(chosen) else chosen

    return choose("alloc"), choose("evict"), choose("oom")
