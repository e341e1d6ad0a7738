"""What is said of a class is the same whether it is compiled or not."""

import inspect

from usmd.compiled_classes import docstring_of, is_compiled, parameters_of
from usmd.policies.evict.fifo import Fifo
from usmd.policies.evict.s3_fifo import S3Fifo


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


def test_docstrings_are_those_of_the_source():
    assert docstring_of(S3Fifo).startswith("New pages pass through a small queue and leave soon")
    assert docstring_of(Inherits) == "Mine."
    assert docstring_of(Own) is None


def test_a_compiled_class_whose_source_is_gone_has_no_docstring():
    for module in ("no.such.module", "sys"):
        assert docstring_of(type("Gone", (), {"__mypyc_attrs__": (), "__module__": module})) is None
