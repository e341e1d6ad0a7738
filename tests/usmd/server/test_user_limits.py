"""Limits of users by rules: shares become pages, changes are those of rules that change, and all fit or none."""

import re
from pathlib import Path

import pytest

from tests.support.shell import Shell, make_core
from usmd.config import load
from usmd.core.events import SetUserLimits
from usmd.errors import ConfigError
from usmd.policy_rules import UserRule
from usmd.server.user_limits import changes, check, limits_by, limits_of_user

ONE = UserRule(uid=1, memory_max="50%", swap_max="25%", memory_min="10%")
TWO = UserRule(uid=2, max_sessions=3)


@pytest.fixture
def shell():
    return Shell(make_core(frames=100, devices=(("swap0", 200),), page_size=4096))


def test_shares_become_pages(shell):
    assert limits_by(ONE, shell.core.state) == SetUserLimits(1, None, 50, 50, 10)
    assert limits_by(TWO, shell.core.state) == SetUserLimits(2, 3)
    numbers = {"memory_weight": 50, "max_regions": 9, "max_hint_ranges": 0, "max_faults": 8}
    limits = limits_by(UserRule(uid=3, **numbers), shell.core.state)
    assert limits == SetUserLimits(3, **numbers)
    shell.do(limits)
    assert limits_of_user(3, shell.core.state) == limits


def test_only_users_whose_rule_changes_get_other_limits_and_one_without_a_rule_none(shell):
    state = shell.core.state
    for each in changes((), (ONE, TWO), state):
        shell.do(each)
    assert limits_of_user(1, state) == SetUserLimits(1, None, 50, 50, 10)
    assert changes((ONE, TWO), (TWO, ONE), state) == []
    more = UserRule(uid=2, max_sessions=4)
    assert changes((ONE, TWO), (more,), state) == [SetUserLimits(1), SetUserLimits(2, 4)]
    assert limits_of_user(3, state) == SetUserLimits(3)


def test_a_guarantee_that_goes_makes_room_for_one_that_comes(shell):
    state = shell.core.state
    before, after = UserRule(uid=1, memory_min="90%"), UserRule(uid=2, memory_min="80%")
    for each in changes((), (before,), state):
        shell.do(each)
    found = changes((before,), (after, UserRule(uid=1, memory_min="5%")), state)
    check(found, state)
    for each in found:
        shell.do(each)
    assert (limits_of_user(1, state).memory_min, limits_of_user(2, state).memory_min) == (5, 80)
    with pytest.raises(ConfigError, match=r"^policy.users: user 3: memory_min of 50 pages .*at most 14 pages"):
        check([SetUserLimits(3, memory_min=50)], state)
    with pytest.raises(ConfigError, match="user 4: memory_min of 10 pages"):
        check([SetUserLimits(3, memory_min=10), SetUserLimits(4, memory_min=10)], state)


def test_the_example_of_the_guide_bounds_what_it_says(tmp_path):
    guide = (Path(__file__).resolve().parents[3] / "docs" / "operating.md").read_text()
    (example,) = [each for each in re.findall(r"```toml\n(.*?)```", guide, re.DOTALL) if "policy.users" in each]
    path = tmp_path / "usmd.toml"
    path.write_text(example)
    (user,) = load(path).policy.users
    large = Shell(make_core(frames=16384, devices=(), page_size=4096))
    assert limits_by(user, large.core.state) == SetUserLimits(1000, 8, 512, 1024, 128, 200, 256, 1024, 512)
