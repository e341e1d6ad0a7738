"""Policies by name: specifications, parameters, and what the errors say."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.shell import Shell, make_core
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.policies import registry

ALL = [(kind, name) for kind, table in registry.TABLES.items() for name in table]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_name_is_a_documented_policy_of_its_kind(kind, name):
    found, parameters = registry.find(kind, name)
    assert issubclass(
        found, {"alloc": registry.AllocPolicy, "evict": registry.EvictPolicy, "oom": registry.OomPolicy}[kind]
    )
    assert (parameters, found.__module__.rsplit(".", 1)[1]) == ({}, name)
    assert registry.summary(kind, name).endswith((".", ";", ":"))


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("fifo", "fifo", {}),
        ("  fifo ( ) ", "fifo", {}),
        ("p(a=1, b=0.5,c=text)", "p", {"a": 1, "b": 0.5, "c": "text"}),
        ('p(f=q(a=1,b=r(c=2)),g="x")', "p", {"f": "q(a=1,b=r(c=2))", "g": "x"}),
        ("p(a=)", "p", {"a": ""}),
    ],
)
def test_specifications_are_read(text, name, parameters):
    assert registry.parse(text) == (name, parameters)


@pytest.mark.parametrize(
    "text", ["", "1st", "p(", "p)", "p(a)", "p(a=1,a=2)", "p(a=(1)", "p(a=1))", "p(=1)", "p q", "p(a=1,)"]
)
def test_a_specification_that_cannot_be_read_is_named(text):
    with pytest.raises(InvalidArgument) as caught:
        registry.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("kind", registry.TABLES)
def test_an_unknown_name_lists_those_that_exist(kind):
    with pytest.raises(UnknownPolicy) as caught:
        registry.find(kind, "magic(power=9)")
    assert "'magic' does not exist" in str(caught.value)
    assert all(name in str(caught.value) for name in registry.TABLES[kind])


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("alloc", "flexible_huge_pages(size=4)", "no parameter 'size'; it has pages, budget"),
        ("alloc", "flexible_huge_pages(pages=many)", "pages='many' is no int; its default is 16"),
        ("alloc", "flexible_huge_pages(pages=1.5)", "pages=1.5 is no int"),
        ("evict", "fifo(size=4)", "no parameter 'size'; it has none"),
        ("evict", "hint_aware(fallback=3)", "fallback=3 is no str"),
        ("evict", "hint_aware(fallback=mru)", "evict policy 'mru' does not exist"),
        ("alloc", "async_aware(regular=flexible_huge_pages(page=3))", "no parameter 'page'"),
        ("evict", "hint_aware(fallback=first_fit)", "evict policy 'first_fit' does not exist"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(kind, text, says):
    with pytest.raises(InvalidArgument) as caught:
        registry.find(kind, text)
    assert says in str(caught.value)


def test_parameters_reach_the_policy():
    shell = Shell(make_core())
    process = shell.attach(alloc="async_aware(regular=flexible_huge_pages(pages=3, budget=1))")
    alloc = shell.core.state.processes[process].policies._alloc
    assert (alloc.regular.pages, alloc.regular.budget) == (3, 1)


@given(st.text(alphabet="pq(=,)1.\"' ", max_size=16))
def test_any_text_is_read_or_refused(text):
    try:
        name, _ = registry.parse(text)
    except InvalidArgument:
        return
    assert name.strip() == name != ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Mine(:", "cannot be loaded: invalid syntax"),
        ("import nothing_of_this_name", "cannot be loaded: No module named 'nothing_of_this_name'"),
        ("class Other: pass", "cannot be loaded: .*Mine"),
        ("class Mine: pass", "is no subclass of EvictPolicy"),
        (
            "from usmd.core.policy import EvictPolicy\nclass Mine(EvictPolicy):\n    def page_left(self, pfn): pass",
            "does not define choose_victims, page_filled",
        ),
    ],
)
def test_a_policy_that_cannot_be_loaded_says_why_and_its_summary_too(tmp_path, monkeypatch, source, said):
    (tmp_path / "mine_policy.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_policy", raising=False)
    monkeypatch.setitem(registry.TABLES["evict"], "mine", "mine_policy:Mine")
    with pytest.raises(InvalidArgument, match=rf"evict policy mine \(mine_policy:Mine\) {said}"):
        registry.find("evict", "mine")
    assert registry.summary("evict", "mine").startswith("unusable: evict policy mine")
