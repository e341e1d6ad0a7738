"""Policies by name: specifications, parameters, and what the errors say."""

import importlib.metadata
import os
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.shell import Shell, make_core
from usmd.compiled_classes import docstring_of
from usmd.errors import EndsRun, InvalidArgument, UnknownPolicy
from usmd.policies import registry

TABLES_BEFORE = {kind: dict(table) for kind, table in registry.TABLES.items()}
ALL = [(kind, name) for kind, table in registry.TABLES.items() for name in table]


@pytest.fixture(autouse=True)
def tables_as_they_were():
    yield
    for kind, table in registry.TABLES.items():
        table.clear()
        table.update(TABLES_BEFORE[kind])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_name_is_a_documented_policy_of_its_kind(kind, name):
    found, parameters = registry.find(kind, name)
    bases = {
        "alloc": registry.AllocPolicy,
        "evict": registry.EvictPolicy,
        "oom": registry.OomPolicy,
        "cond": registry.ConditionalPolicy,
    }
    assert issubclass(found, bases[kind])
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
        ("acme.lru-k(a=true,b=false,c='true',d=True)", "acme.lru-k", {"a": True, "b": False, "c": "true", "d": "True"}),
        ("p(a=nan,b=inf,c=1e999)", "p", {"a": "nan", "b": "inf", "c": "1e999"}),
        ("dir/my file.py:Mine", "dir/my file.py:Mine", {}),
        ("~/a:b.py:Mine (a=1) ", "~/a:b.py:Mine", {"a": 1}),
        ("p(f=/x.py:Mine(a=1,b=y.py:B),g=2)", "p", {"f": "/x.py:Mine(a=1,b=y.py:B)", "g": 2}),
    ],
)
def test_specifications_are_read(text, name, parameters):
    assert registry.parse(text) == (name, parameters)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1st",
        "p(",
        "p)",
        "p(a)",
        "p(a=1,a=2)",
        "p(a=(1)",
        "p(a=1))",
        "p(=1)",
        "p q",
        "p(a=1,)",
        "x.py:",
        "x.py:1",
        "x:C",
        "x,.py:C",
        "./x.py",
        "x.py:A.B",
        ":C",
    ],
)
def test_a_specification_that_cannot_be_read_is_named(text):
    with pytest.raises(InvalidArgument) as caught:
        registry.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("name", ["s3fifo", "S3-FIFO", "S3_FIFO(small=0.2)"])
def test_an_unknown_name_is_told_of_the_most_similar_one(name):
    with pytest.raises(UnknownPolicy, match=r"does not exist; did you mean s3_fifo\? there are arc, "):
        registry.find("evict", name)


@pytest.mark.parametrize("kind", registry.TABLES)
def test_an_unknown_name_lists_those_that_exist(kind):
    with pytest.raises(UnknownPolicy) as caught:
        registry.find(kind, "magic(power=9)")
    assert "'magic' does not exist" in str(caught.value)
    assert all(name in str(caught.value) for name in registry.TABLES[kind])


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("alloc", "flexible_huge_pages(bytes=4)", "no parameter 'bytes'; it has pages, budget, size"),
        ("alloc", "flexible_huge_pages(size=64Q)", "flexible_huge_pages: size: size '64Q' cannot be read"),
        ("alloc", "flexible_huge_pages(pages=many)", "pages='many' is not of type int; its default is 16"),
        ("alloc", "flexible_huge_pages(pages=1.5)", "pages=1.5 is not of type int"),
        ("evict", "fifo(size=4)", "evict policy fifo: size=4: it has no parameter 'size'; it has none"),
        ("evict", "hint_aware(fallback=true)", "fallback=true is not of type str"),
        ("alloc", "flexible_huge_pages(pages=true)", "pages=true is not of type int"),
        ("evict", "hint_aware(fallback=3)", "fallback=3 is not of type str"),
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
        ("class Mine: pass", "is not a subclass of EvictPolicy"),
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


GOOD = """
from usmd.core.policy import AllocPolicy, EvictPolicy
from usmd.policies.evict.fifo import Fifo

class Mine(Fifo):
    \"\"\"First line.

    Another.\"\"\"

    def __init__(self, memory, window=8, share=0.5, name="x", strict=False, other=None, *, last=1):
        super().__init__(memory)
        self.got = (window, share, name, strict, last)

class Half(EvictPolicy):
    def page_left(self, pfn): pass

class Needs(Fifo):
    def __init__(self, memory, window): pass

class Nothing(Fifo):
    def __init__(self): pass

class Elsewhere(AllocPolicy):
    pass

class Plain: pass

number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_a_policy_in_a_file_gets_its_parameters_as_its_defaults_want_them(file):
    specification = f'{file}:Mine(window=3, share=2, name="7", strict=true, last=9)'
    process = (shell := Shell(make_core())).attach(evict=specification)
    made = shell.core.state.processes[process].policies._evict
    assert made.got == (3, 2.0, "7", True, 9)
    assert [type(each) for each in made.got] == [int, float, str, bool, int]


def test_a_policy_in_a_file_may_be_built_upon_and_found_from_the_working_directory(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    shell = Shell(make_core())
    process = shell.attach(evict="hint_aware(fallback=mine.py:Mine(window=4))")
    classes = shell.core.state.processes[process].policies._evict.classes
    assert [each.got[0] for each in classes] == [4, 4, 4]
    with pytest.raises(InvalidArgument, match="Mine: size=4: it has no parameter 'size'"):
        registry.find("evict", "hint_aware(fallback=./mine.py:Mine(size=4))")


def test_a_changed_file_is_another_policy(file):
    before, _ = registry.find("evict", f"{file}:Mine")
    assert registry.find("evict", f"{file}:Mine")[0] is before
    file.write_text(GOOD.replace("First line", "First line of another"))
    after, _ = registry.find("evict", f"{file}:Mine")
    assert (before.__doc__[:11], registry.summary("evict", f"{file}:Mine")) == ("First line.", "First line of another.")
    assert after is not before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mine(size=4)", "it has no parameter 'size'; it has window, share, name, strict, other, last"),
        ("Mine(window=1.5)", "window=1.5 is not of type int; its default is 8"),
        ("Mine(window=true)", "window=true is not of type int"),
        ("Mine(share=half)", "share='half' is not of type float; its default is 0.5"),
        ("Mine(share=nan)", "share='nan' is not of type float"),
        ("Mine(share=true)", "share=true is not of type float"),
        ("Mine(strict=1)", "strict=1 is not of type bool, which is true or false; its default is false"),
        ("Mine(strict=yes)", "strict='yes' is not of type bool"),
        ("Mine(name=3)", "name=3 is not of type str; its default is 'x'"),
        ("Mine(other=3)", "'other' cannot be set, because its default, None, is not an int, float, str or bool"),
        ("Needs(window=3)", "cannot be made: parameter 'window' of its constructor has no default"),
        ("Nothing", "cannot be made: its constructor must take the view"),
        ("Absent", "cannot be loaded: {file} has no class Absent; its evict policies are Mine, Half, Needs, Nothing"),
        ("Plain", "is not a subclass of EvictPolicy ({file}:26); its evict policies are Mine, Half, Needs, Nothing"),
        ("Elsewhere", "is not a subclass of EvictPolicy ({file}:23)"),
        ("number", "is not a subclass of EvictPolicy; its"),
        ("Half", "does not define choose_victims, page_filled ({file}:14)"),
    ],
)
def test_what_is_wrong_with_a_policy_in_a_file_is_said_with_its_place(file, text, said):
    with pytest.raises(InvalidArgument) as caught:
        registry.find("evict", f"{file}:{text}")
    assert str(caught.value).startswith(f"evict policy {file}:{text.partition('(')[0]}")
    assert said.format(file=file) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\nclass Mine(:", "invalid syntax ({file}:2)"),
        ("x = '\0'", "null byte"),
        ("import sys\nsys.exit(0)", "SystemExit(0) ({file}:2)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt() ({file}:1)"),
        ("class E(BaseException):\n    def __repr__(self): 1 / 0\nraise E", "E() ({file}:3)"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name' ({file}:1)"),
        ("def __getattr__(name): raise SystemExit(name)", "SystemExit('Mine') ({file}:1)"),
        ("x = 1", "{file} has no class Mine; it defines no evict policy"),
        ("import usmd.errors\nraise usmd.errors.DataLoss('lost')", "lost"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why_with_its_place_whatever_it_does(tmp_path, source, said):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(InvalidArgument) as caught:
        registry.find("evict", f"{path}:Mine")
    assert str(caught.value).startswith(f"evict policy {path}:Mine cannot be loaded: ")
    assert said.format(file=path) in str(caught.value)


class Ended(EndsRun, KeyboardInterrupt):
    """As usmctl raises when a signal comes."""


@pytest.mark.parametrize("raised", [Ended, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("own", [True, False])
def test_an_interrupt_that_comes_while_a_policy_is_loaded_is_no_fault_of_the_policy(monkeypatch, file, raised, own):
    def load(name):
        raise raised

    monkeypatch.setattr(registry.importlib, "import_module", load)
    theirs = raised is SystemExit or (raised is KeyboardInterrupt and not own)  # a file may raise that by itself
    with pytest.raises(InvalidArgument if theirs else raised):
        registry.find("evict", "lru" if own else f"{file}:Mine")


def test_a_file_that_does_not_exist_or_is_not_trusted_is_named(file):
    with pytest.raises(
        InvalidArgument, match=r"absent\.py:Mine cannot be loaded: .*absent\.py cannot be read: No such file"
    ):
        registry.find("evict", f"{file.parent}/absent.py:Mine")
    os.chmod(file, 0o666)
    with pytest.raises(InvalidArgument, match="has mode 0666, so that other users may write to it"):
        registry.find("evict", f"{file}:Mine")


def test_a_file_without_a_class_is_told_how_it_is_named():
    with pytest.raises(UnknownPolicy, match=r"a policy in a file is named with its class: mine\.py:Class"):
        registry.find("evict", "mine.py")


def points(*rows):
    return [
        importlib.metadata.EntryPoint(name, value, f"usmd.policies.{kind}")._for(SimpleNamespace(name=package))
        for kind, name, value, package in rows
    ]


def test_the_entry_points_of_packages_are_entered_and_never_instead_of_what_is_there():
    tables = {"alloc": {"first_fit": "a:B"}, "evict": {"lru": "c:D"}, "oom": {}}
    left_out = registry.enter_packages(
        tables,
        points(
            ("evict", "acme", "acme.policy:Acme [fast]", "acme-lru"),
            ("evict", "lru", "acme.policy:Lru", "acme-lru"),
            ("evict", "acme", "other:Acme", "other"),
            ("oom", "lru", "acme.policy:Kill", "acme-lru"),
            ("alloc", "first_fit", "a:B", "usmd"),
        ),
    )
    assert tables == {
        "alloc": {"first_fit": "a:B"},
        "evict": {"lru": "c:D", "acme": "acme.policy:Acme"},
        "oom": {"lru": "acme.policy:Kill"},
    }
    assert left_out == {
        ("evict", "lru"): "acme.policy:Lru of package acme-lru",
        ("evict", "acme"): "other:Acme of package other",
    }


def test_a_summary_tells_of_a_policy_that_a_built_in_name_keeps_out(monkeypatch):
    monkeypatch.setitem(registry._LEFT_OUT, ("evict", "lru"), "acme.policy:Lru of package acme-lru")
    before = docstring_of(registry.find("evict", "lru")[0]).partition("\n")[0]
    assert registry.summary("evict", "lru") == (
        f"{before} (not used, because the name is taken: acme.policy:Lru of package acme-lru)"
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("usmd_test_absent:Mine", "cannot be loaded: No module named 'usmd_test_absent'"),
        ("", "cannot be loaded: "),
        ("nonsense", "cannot be loaded: "),
        ("usmd_test_hostile:Mine", r"cannot be loaded: SystemExit\(3\) \(.*usmd_test_hostile.py:1\)"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_listed_with_the_reason(tmp_path, monkeypatch, target, said):
    (tmp_path / "usmd_test_hostile.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.TABLES["evict"], "acme", target)
    with pytest.raises(InvalidArgument, match=said):
        registry.find("evict", "acme")
    assert registry.summary("evict", "acme").startswith("unusable: evict policy acme (")
    with pytest.raises(UnknownPolicy, match="there are acme, "):
        registry.find("evict", "nothing")


def test_a_policy_from_a_file_is_listed_once_it_was_made_and_not_when_it_could_not_be(file):
    shell = Shell(make_core())
    with pytest.raises(InvalidArgument):
        shell.attach(evict=f"{file}:Half")
    for _ in range(2):
        shell.attach(evict=f"hint_aware(fallback={file}:Mine(window=2))")
    assert registry.TABLES["evict"].keys() - TABLES_BEFORE["evict"] == {f"{file}:Mine"}
    with pytest.raises(UnknownPolicy, match=rf"there are {file}:Mine, "):
        registry.find("evict", "nothing")


def nested(depth):
    return "hint_aware(fallback=" * depth + "lru" + ")" * depth


def test_specifications_stand_in_each_other_so_deep_and_no_deeper():
    """Each hint_aware makes three of what is in it."""
    registry.find("evict", nested(registry.MAX_DEPTH))
    with pytest.raises(InvalidArgument, match=r"is nested 5 deep; allowed are 4$"):
        registry.find("evict", nested(registry.MAX_DEPTH + 1))
    with pytest.raises(
        InvalidArgument, match=r"^policy 'hint_aware.*'… is written in 6\d{4} characters; allowed are 4096$"
    ):
        registry.find("evict", nested(3000))
