"""Which policies and budgets a process gets, by the rules of `[policy]`."""

import pytest

from usmd.core.events import Quotas
from usmd.errors import ConfigError, InvalidArgument
from usmd.policy_rules import Choice, PolicyNames, PolicyRule, PolicyRules, UserRule

RULES = PolicyRules(
    alloc="A",
    evict="E",
    oom="O",
    rules=(
        PolicyRule(uid=7, oom="by_uid"),
        PolicyRule(glob="web-*", evict="first_glob"),
        PolicyRule(glob="*", evict="last_glob"),
        PolicyRule(name="web-1", alloc="by_name"),
        PolicyRule(name="web-1", alloc="never"),
    ),
)


@pytest.mark.parametrize(
    ("name", "uid", "expected"),
    [
        ("web-1", 7, ("by_name", "E", "O")),
        ("web-2", 7, ("A", "first_glob", "O")),
        ("WEB-2", 7, ("A", "last_glob", "O")),
    ],
)
def test_an_exact_name_goes_before_a_glob_and_the_first_of_a_kind_decides_alone(name, uid, expected):
    alloc, evict, oom = expected
    assert RULES.choose(name, uid) == PolicyNames(alloc=alloc, evict=evict, oom=oom)


@pytest.mark.parametrize(("uid", "oom"), [(7, "by_uid"), (0, "root"), (8, "refuse"), (None, "refuse")])
def test_a_uid_decides_when_no_name_does_and_an_unknown_uid_matches_none(uid, oom):
    rules = PolicyRules(
        rules=(PolicyRule(glob="web-*", oom="x"), PolicyRule(uid=7, oom="by_uid"), PolicyRule(uid=0, oom="root"))
    )
    assert rules.choose("db", uid).oom == oom


def test_a_conditional_policy_is_chosen_like_the_others_and_none_is_one():
    rules = PolicyRules(cond="trim", rules=(PolicyRule(name="a", cond="none"), PolicyRule(name="b", evict="lru")))
    assert [rules.choose(name, None).cond for name in ("a", "b", "c")] == ["none", "trim", "trim"]
    assert PolicyRules().choose("a", None).cond == "none"


def test_a_rule_that_changes_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"policy.rules\[0\] changes nothing"):
        PolicyRules(rules=(PolicyRule(name="a"),)).check()


def test_all_rules_and_users_that_cannot_be_are_told_at_once():
    rules = (PolicyRule(name="a"), PolicyRule(uid=1, glob="b", swap_max="1%"), PolicyRule(name="c", evict="lru"))
    users = (UserRule(uid=1), UserRule(uid=1, swap_max="1%"))
    with pytest.raises(ConfigError) as caught:
        PolicyRules(rules=rules, users=users).check()
    assert [each.key for each in caught.value.all] == [
        "policy.rules[0]", "policy.rules[1]", "policy.rules[1].swap_max",
        "policy.users[0]", "policy.users[1].uid", "policy.users[1].swap_max",
    ]  # fmt: skip


def test_a_rule_may_bound_the_memory_of_a_process():
    rules = PolicyRules(rules=(PolicyRule(name="hog", memory_max="25%"),))
    assert rules.choose("hog", None).memory_frames(1024, 4096) == 256
    assert rules.choose("other", None).memory_frames(1024, 4096) is None


@pytest.mark.parametrize(
    ("share", "slots", "pages"),
    [("25%", 1024, 256), ("64KiB", 1024, 16), ("0%", 1024, 0), ("0B", 8, 0), ("1MiB", 8, 256), ("50%", 0, 0)],
)
def test_a_rule_may_bound_the_swap_of_a_process_also_by_more_than_there_is(share, slots, pages):
    rules = PolicyRules(rules=(PolicyRule(name="hog", memory_max="25%", swap_max=share),))
    assert rules.choose("hog", None).swap_pages(slots, 4096) == pages
    assert rules.choose("other", None).swap_pages(slots, 4096) is None


def test_a_rule_may_narrow_the_limits_of_a_process_in_numbers():
    rules = PolicyRules(
        rules=(
            PolicyRule(name="a", max_regions=3, max_hint_ranges=0, max_faults=5),
            PolicyRule(name="b", deny_budget="25%"),
        )
    )
    found = [rules.choose(name, None).quotas(1024, 4096) for name in ("a", "b", "c")]
    assert found == [Quotas(3, 0, 5), Quotas(deny_budget=256), Quotas()]
    with pytest.raises(ConfigError, match=r"^deny_budget: share '2GiB' of 4 MiB"):
        PolicyNames(alloc="A", evict="E", oom="O", deny_budget="2GiB").quotas(1024, 4096)


def test_a_clients_choice_goes_before_the_default_and_a_rule_that_sets_that_kind_refuses_it():
    assert RULES.choose("web-1", None, Choice(evict="mine")) == PolicyNames(alloc="by_name", evict="mine", oom="O")
    assert RULES.choose("web-2", 7, Choice(alloc="mine")) == PolicyNames(alloc="mine", evict="first_glob", oom="O")
    with pytest.raises(
        InvalidArgument, match=r"^evict policy .mine. cannot be chosen: a rule .* first_glob; leave evict"
    ):
        RULES.choose("web-2", 7, Choice(alloc="mine", evict="mine"))


@pytest.mark.parametrize(
    ("of_rule", "wanted", "frames"), [(None, 0, None), (64, 0, 64), (None, 40, 40), (64, 40, 40), (64, 99, 64)]
)
def test_a_clients_bound_of_its_memory_may_only_lower_that_of_its_rule(of_rule, wanted, frames):
    assert Choice(memory_max=wanted * 4096 + 7 * bool(wanted)).bound(of_rule, 4096) == frames


def test_a_rule_may_guarantee_memory_and_weigh_a_process():
    rules = PolicyRules(rules=(PolicyRule(name="db", memory_min="25%"), PolicyRule(glob="batch-*", memory_weight=50)))
    assert rules.choose("db", None).guaranteed_frames(1024, 4096) == 256
    assert rules.choose("batch-1", None).guaranteed_frames(1024, 4096) == 0
    assert [rules.choose(name, None).memory_weight for name in ("db", "batch-1")] == [None, 50]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([{"memory_min": "60%"}, {"memory_min": "40%"}], r"rules\[1\].memory_min = '40%' .* at most 1.*below the high"),
        ([{"memory_min": "30%", "memory_max": "25%"}], r"rules\[0\].memory_min = '30%' .* memory_max, which is '25%'"),
        ([{"memory_min": "100%"}], r"rules\[0\].memory_min = '100%' is not allowed"),
    ],
)
def test_guarantees_of_all_rules_must_fit_below_the_high_watermark(rules, said):
    names = iter("abc")
    with pytest.raises(ConfigError, match=said):
        PolicyRules(rules=tuple(PolicyRule(name=next(names), **rule) for rule in rules)).check_guarantees(
            1024, 4096, 64
        )
    wrong = [{"memory_min": "30%", "memory_max": "25%"}, {"memory_max": "1%"}, {"memory_min": "70%"}]
    wrong += [{"memory_min": "2GiB"}, {"memory_min": "1%"}]
    with pytest.raises(ConfigError) as caught:
        PolicyRules(rules=tuple(PolicyRule(name="x", **rule) for rule in wrong)).check_guarantees(1024, 4096, 64)
    keys = ("rules[0].memory_min", "rules[1].memory_max", "rules[2].memory_min", "rules[3].memory_min")
    assert [each.key for each in caught.value.all] == [f"policy.{key}" for key in keys]
    fits = PolicyRules(rules=(PolicyRule(name="a", memory_min="50%"), PolicyRule(name="b", memory_min="43%")))
    fits.check_guarantees(1024, 4096, 64)
