"""Whether a process could get a policy."""

import re

import msgspec
import pytest

from usmd import config
from usmd.core.running import Running
from usmd.errors import ConfigError, InvalidArgument, UnknownPolicy
from usmd.policy_rules import PolicyRule, PolicyRules
from usmd.server.policy_check import check_choice, check_policies, check_policy, stand_ins
from usmd.swap.memory import MemoryKind
from usmd.swap.open import open_devices

PAGE = 4096


def settings_with(**policy):
    loaded = config.load()
    return msgspec.structs.replace(loaded, policy=PolicyRules(**policy))


@pytest.mark.parametrize(
    ("policy", "error", "said"),
    [
        (
            {"alloc": "nothing"},
            ConfigError,
            "policy.alloc: alloc policy 'nothing' does not exist; there are async",
        ),
        ({"evict": "hint_aware(fallback=nothing)"}, ConfigError, "policy.evict: evict policy 'nothing'"),
        ({"alloc": "flexible_huge_pages(pages=0)"}, InvalidArgument, "allowed are pages from 1"),
        ({"alloc": "flexible_huge_pages(budget=nan)"}, InvalidArgument, "budget='nan' is not of type float"),
        ({"rules": (PolicyRule(name="a", alloc="flexible_huge_pages(pages=-1)"),)}, InvalidArgument, "pages=-1"),
        (
            {"rules": (PolicyRule(name="a", oom="nothing"),)},
            ConfigError,
            "policy.rules[0].oom: oom policy 'nothing'",
        ),
        ({"choices": ("lru", "refuse")}, ConfigError, "policy.choices: no alloc or evict policy is called 'refuse'"),
        ({"swap": "3"}, ConfigError, "policy.swap = '3' is not a swap device"),
        ({"rules": (PolicyRule(name="a", swap="nowhere"),)}, ConfigError, "'nowhere'"),
    ],
)
def test_policies_and_devices_that_no_process_could_get_are_refused(policy, error, said):
    devices = open_devices([MemoryKind(size=PAGE)], PAGE)
    with pytest.raises(error, match=re.escape(said)):
        check_policies(PolicyRules(**policy), [each.name for each in devices], Running())
    devices[0].close()


def test_policies_and_devices_that_exist_are_accepted():
    devices = open_devices([MemoryKind(size=PAGE), MemoryKind(size=PAGE, name="fast")], PAGE)
    rules = (PolicyRule(glob="a*", alloc="flexible_huge_pages(pages=7)", swap="fast"), PolicyRule(uid=0, swap="0"))
    rules = PolicyRules(evict="hint_aware(fallback=lru)", swap="1", rules=rules)
    check_policies(rules, [each.name for each in devices], Running())
    for device in devices:
        device.close()


@pytest.mark.parametrize(
    ("kind", "specification", "error", "said"),
    [
        ("evict", "nothing", UnknownPolicy, "evict policy 'nothing' does not exist; there are arc"),
        ("evict", "lru(size=1)", InvalidArgument, "it has no parameter 'size'"),
        ("oom", "refuse(", InvalidArgument, "cannot be read"),
        ("evict", "belady", InvalidArgument, "a live memory has no known future"),
        ("alloc", "flexible_huge_pages(pages=0)", InvalidArgument, "allowed are pages from 1"),
    ],
)
def test_a_policy_that_cannot_be_had_is_refused_with_the_reason(kind, specification, error, said):
    with pytest.raises(error, match=re.escape(said)):
        check_policy(kind, specification, Running())


def test_a_constructor_that_raises_is_told_with_its_place(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(
        "from usmd.policies.evict.lru import Lru\n\n\n"
        "class Broken(Lru):\n    def __init__(self, memory):\n        raise KeyError(1)\n"
    )
    file.chmod(0o644)
    with pytest.raises(InvalidArgument, match=re.escape(f"cannot be made: KeyError(1) ({file}:6)")):
        check_policy("evict", f"{file}:Broken", Running())


def test_the_configured_defaults_take_the_place_of_a_misbehaving_policy_but_none_from_a_file():
    assert stand_ins(PolicyRules()) == ("async_aware", "hint_aware", "refuse")
    assert stand_ins(PolicyRules(alloc="first_fit", evict="lru", oom="kill_largest")) == (
        "first_fit",
        "lru",
        "kill_largest",
    )
    assert stand_ins(PolicyRules(evict="/etc/usmd/mine.py:Mine(a=1)"))[1] == "hint_aware"
    assert stand_ins(PolicyRules(evict="hint_aware(fallback=/etc/usmd/mine.py:Mine)"))[1] == "hint_aware"


@pytest.mark.parametrize("specification", ["lru", "hint_aware", "hint_aware(fallback=w_tinylfu(window=0.02))"])
def test_without_a_word_of_the_configuration_a_client_may_choose_what_comes_with_usmd(specification):
    check_choice("evict", specification, None)


@pytest.mark.parametrize(
    ("specification", "choices", "said"),
    [
        ("arc", ("lru", "s3_fifo"), "does not allow arc; allowed are lru, s3_fifo"),
        ("hint_aware(fallback=arc)", ("hint_aware", "lru"), "does not allow arc; allowed are hint_aware, lru"),
        ("lru", (), "allowed are none"),
        ("/etc/policy.py:Mine", None, "does not allow /etc/policy.py:Mine; allowed are arc, belady"),
        ("hint_aware(fallback=/etc/policy.py:Mine)", None, "does not allow /etc/policy.py:Mine"),
        ("first_fit", None, "does not allow first_fit"),
        ("lru(", None, "cannot be read"),
    ],
)
def test_another_is_refused_and_not_loaded_wherever_it_is_named(specification, choices, said):
    with pytest.raises(InvalidArgument, match=re.escape(said)):
        check_choice("evict", specification, choices)
