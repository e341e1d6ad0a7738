"""A constructor of the core sets attributes of its own object alone: what an object needs is there when it is made."""

import ast
from pathlib import Path

import usmd.core

SOURCES = sorted(Path(next(iter(usmd.core.__path__))).glob("*.py"))
ELSEWHERE = """
class A:
    def __init__(self, b):
        self.b = b
        self.b.a: A = self
        b.c, b.d = 1, 2
        self.x[0] = 1
"""


def wired(source):
    """The attributes of other objects that constructors set, by line."""
    for each in ast.walk(ast.parse(source)):
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            for node in ast.walk(each):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.ctx, ast.Store)
                    and not (isinstance(node.value, ast.Name) and node.value.id == "self")
                ):
                    yield node.lineno, ast.unparse(node)


def test_what_is_set_elsewhere_is_found():
    assert sorted(wired(ELSEWHERE)) == [(5, "self.b.a"), (6, "b.c"), (6, "b.d")]


def test_no_constructor_of_the_core_completes_another_object():
    assert len(SOURCES) > 50
    assert {path.name: found for path in SOURCES if (found := list(wired(path.read_text(encoding="utf-8"))))} == {}
