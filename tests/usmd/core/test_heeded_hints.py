"""Hints that no policy of the process acts on are named, and none that one may act on."""

from itertools import chain

import pytest

from tests.support.shell import Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.policy import Allocation, AllocPolicy, EvictPolicy
from usmd.core.report import hint_ranges, hint_report
from usmd.policies import registry
from usmd.policies.evict.lru import Lru

ALL = "PRIORITY=LOW; FHP=64KiB; ACCESS=RANDOM; EVICTION=DENY; SWAP=0; TTL=5; WILLNEED; X_NOTE=a"


class Reads(AllocPolicy):
    """Acts on FHP and X_NOTE."""

    heeds = frozenset({"FHP", "x_note"})

    def allocate(self, fault, async_rq):
        """One page."""
        return Allocation(fault.page)


class ReadsAll(Reads):
    """Acts on any free-form key."""

    heeds = frozenset({"X_"})


class SaysNothing(Reads):
    """Its base says what it heeds; it may look at more."""


class Broken(Reads):
    """Cannot be asked."""

    def heeded_keys(self):
        """No answer."""
        raise KeyError("no answer")


class Own(Lru):
    """Derived from a policy of the registry."""


MADE = {each.__name__: each for each in (Reads, ReadsAll, SaysNothing, Broken, Own)}


def make(kind, specification, memory):
    found = MADE.get(specification)
    return found(memory) if found else registry.make(kind, specification, memory)


def unheeded(text, alloc="first_fit", evict="lru", cond="none"):
    shell = Shell(make_core(make_policy=make))
    process = shell.attach(alloc=alloc, evict=evict, cond=cond)
    region = shell.map(process, 4)
    answer = shell.do(events.SetHint(process, region, 0, None, parse_hint(text)))
    assert isinstance(answer, commands.HintSet)
    core = shell.core
    reported = [hint_report(*each, ()).unheeded for each in chain(*hint_ranges(core, None))]
    assert reported in ([list(answer.unheeded)], [])
    return list(answer.unheeded)


def test_keys_that_no_policy_acts_on_are_named():
    assert unheeded(ALL) == ["PRIORITY", "ACCESS", "FHP", "X_NOTE"]


def test_the_default_policies_act_on_every_key_but_free_form_ones():
    defaults = make_core().state.settings.default_policies
    assert unheeded(ALL, alloc=defaults[0], evict=defaults[1]) == ["X_NOTE"]


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ({"evict": "hint_aware(fallback=arc)"}, ["ACCESS", "FHP", "X_NOTE"]),
        ({"alloc": "flexible_huge_pages"}, ["PRIORITY", "X_NOTE"]),
        ({"alloc": "async_aware(regular=first_fit)"}, ["PRIORITY", "ACCESS", "FHP", "X_NOTE"]),
        ({"cond": "all_of(first=trim,second=swap_back)"}, ["PRIORITY", "ACCESS", "FHP", "X_NOTE"]),
        ({"alloc": "Reads"}, ["PRIORITY", "ACCESS"]),
        ({"alloc": "ReadsAll"}, ["PRIORITY", "ACCESS", "FHP"]),
        ({"alloc": "SaysNothing"}, []),
        ({"evict": "Own"}, []),
        ({"alloc": "Broken"}, []),
    ],
)
def test_a_policy_says_what_it_heeds_and_of_one_that_does_not_nothing_is_told(policies, expected):
    assert unheeded(ALL, **policies) == expected


@pytest.mark.parametrize("text", ["PRIORITY=NORMAL; ACCESS=NORMAL", "EVICTION=DENY; SWAP=0; TTL=5", "DONTNEED", ""])
def test_what_the_core_acts_on_and_what_asks_for_nothing_is_not_named(text):
    assert unheeded(text) == []


@pytest.mark.parametrize("kind", sorted(registry.TABLES))
def test_every_policy_of_the_registry_says_what_it_heeds(kind):
    for name in registry.TABLES[kind]:
        found, _ = registry.find(kind, name)
        composite = found.heeded_keys is not EvictPolicy.heeded_keys
        assert composite or vars(found).get("heeds") is not None, name
