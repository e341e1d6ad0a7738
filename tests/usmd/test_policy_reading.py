"""The section `[policy]`: all mistakes of all rules, and limits that do not fit the memory."""

import pytest

from usmd.config import MemoryConfig
from usmd.config_values import Gathered
from usmd.errors import ConfigError
from usmd.policy_reading import check_rules, read_policy
from usmd.policy_rules import PolicyRule, PolicyRules, UserRule


def read(table):
    gathered = Gathered()
    return read_policy(table, gathered), [each.key for each in gathered.errors]


def test_what_has_no_mistake_is_read_as_it_is():
    table = {"evict": "lru", "rules": [{"name": "a", "alloc": "first_fit"}], "users": [{"uid": 1, "max_sessions": 2}]}
    expected = PolicyRules(
        evict="lru", rules=(PolicyRule(name="a", alloc="first_fit"),), users=(UserRule(uid=1, max_sessions=2),)
    )
    assert read(table) == (expected, [])


def test_a_mistake_hides_none_in_other_rules_and_what_can_be_read_keeps_its_place():
    table = {
        "evict": "lru",
        "max_errors": -1,
        "rules": [{"name": "a", "max_faults": 0, "oom": ""}, {"name": "b", "uid": 3, "evict": "arc"}, 7],
        "users": [{"max_sessions": 1}, {"uid": 1}],
    }
    policy, keys = read(table)
    assert keys == [
        "policy.max_errors", "policy.rules[0].max_faults", "policy.rules[0].oom", "policy.rules[2]",
        "policy.users[0].uid", "policy.rules[1]", "policy.users[1]",
    ]  # fmt: skip
    assert (policy.evict, policy.max_errors) == ("lru", PolicyRules().max_errors)
    assert (policy.rules[1], policy.users[1]) == (PolicyRule(name="b", uid=3, evict="arc"), UserRule(uid=1))


@pytest.mark.parametrize("table", [7, [], {"rules": 7}, {"rules": {"name": "a"}, "users": "b"}])
def test_what_is_no_table_is_told_and_changes_nothing(table):
    policy, keys = read(table)
    assert policy == PolicyRules()
    assert keys in (["policy"], ["policy.rules"], ["policy.rules", "policy.users"])


def test_all_limits_of_a_rule_that_do_not_fit_the_memory_are_told():
    rule = PolicyRule(
        name="a", memory_max="1KiB", memory_min="101MiB", swap_max="1KiB", max_regions=1025, deny_budget="51%"
    )
    user = UserRule(uid=1, memory_max="50%", memory_min="60%", swap_max="1KiB")
    with pytest.raises(ConfigError) as caught:
        check_rules(PolicyRules(rules=(rule,), users=(user,)), MemoryConfig(size=100 << 20))
    keys = [each.key for each in caught.value.all]
    assert keys == [
        *(f"policy.rules[0].{name}" for name in ("swap_max", "max_regions", "deny_budget")), "policy.users[0].swap_max",
        *(f"policy.rules[0].{name}" for name in ("memory_max", "memory_min")), "policy.users[0].memory_min",
    ]  # fmt: skip
    for error in caught.value.all:
        assert str(error).startswith(error.key)
