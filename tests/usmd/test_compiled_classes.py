"""What is said of a class is the same whether it is compiled or not."""

import ast
import inspect
from pathlib import Path

import pytest

import usmd
from usmd.compiled_classes import docstring_of, is_compiled, parameters_of
from usmd.policies import registry
from usmd.policies.evict.fifo import Fifo
from usmd.policies.evict.s3_fifo import S3Fifo

SOURCES = Path(usmd.__file__).parents[1]


class Inherits(S3Fifo):
    """Mine."""


class Own(S3Fifo):
    def __init__(self, memory, window=3):
        super().__init__(memory, small=0.5)


class Says(S3Fifo):
    __signature__ = inspect.Signature([inspect.Parameter("said", inspect.Parameter.KEYWORD_ONLY)])


def names_and_defaults(found):
    return [(each.name, each.default) for each in parameters_of(found)]


def test_parameters_are_those_of_the_constructor_and_can_be_given_by_name():
    for each in (S3Fifo, Inherits):
        assert names_and_defaults(each) == [
            ("memory", inspect.Parameter.empty), ("small", 0.1), ("ghost", 0.9), ("promote_at", 2)
        ]  # fmt: skip
        assert {parameter.kind for parameter in parameters_of(each)} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert names_and_defaults(Fifo) == [("memory", inspect.Parameter.empty)]


def test_a_class_over_a_compiled_one_has_its_own():
    assert names_and_defaults(Own) == [("memory", inspect.Parameter.empty), ("window", 3)]
    assert names_and_defaults(Says) == [("said", inspect.Parameter.empty)]
    assert not is_compiled(Own)


POLICIES = [(kind, name) for kind, names in registry.BUILT_IN.items() for name in sorted(names)]


@pytest.mark.parametrize(("kind", "name"), POLICIES)
def test_every_policy_has_the_parameters_and_the_docstring_of_its_source(kind, name):
    found, _ = registry.find(kind, name)
    tree = ast.parse((SOURCES / f"{found.__module__.replace('.', '/')}.py").read_text(encoding="utf-8"))
    written = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == found.__name__)
    assert inspect.cleandoc(docstring_of(found)) == ast.get_docstring(written)
    made = [node.args for node in written.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    defaults = made[0].defaults if made else []
    names = [each.arg for each in made[0].args[1:]] if made else ["memory"]
    values = [inspect.Parameter.empty, *(ast.literal_eval(each) for each in defaults)]
    assert names_and_defaults(found) == list(zip(names, values, strict=True))


def test_docstrings_are_those_of_the_source():
    assert docstring_of(S3Fifo).startswith("New pages pass through a small queue and leave soon")
    assert docstring_of(Inherits) == "Mine."
    assert docstring_of(Own) is None


def test_a_compiled_class_whose_source_is_gone_has_no_docstring():
    for module in ("no.such.module", "sys"):
        assert docstring_of(type("Gone", (), {"__mypyc_attrs__": (), "__module__": module})) is None
