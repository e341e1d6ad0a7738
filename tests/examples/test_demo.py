"""The demo itself, on fewer files and queries: a real daemon, real swap, every byte compared."""

import functools

import pytest

from examples import demo
from tests.support.real_memory import require_real_memory

standard_library = functools.cache(demo.standard_library)  # it looks at thousands of files


@pytest.mark.parametrize("mechanism", ["simulated", "userfaultfd"])
def test_hints_keep_the_index_in_memory_and_every_byte_is_right(capsys, mechanism):
    if mechanism == "userfaultfd":
        require_real_memory()
    paths = standard_library()[:300]  # of fewer, the index is more than it may keep
    without, with_hints, used = demo.main(paths, queries=40, mechanism=mechanism)
    assert used == mechanism
    said = capsys.readouterr().out
    assert f"mechanism: {mechanism}" in said
    assert "yields (USM_YIELD)" in said
    assert f"every byte of {len(paths)} files is right" in said
    assert "on the index" in said
    assert with_hints.index_faults < without.index_faults
    assert without.answers == with_hints.answers > 0
    assert min(without.evictions, with_hints.evictions) > 0
    assert min(without.yields, with_hints.yields) > 0


def test_the_standard_library_is_real_text_without_its_tests():
    paths = standard_library()
    assert any(path.name == "argparse.py" for path in paths)
    assert not any("test" in path.parts for path in paths)
    assert sum(path.stat().st_size for path in paths) <= demo.MAX_TEXT


def test_a_byte_that_comes_back_different_ends_the_demo(monkeypatch):
    monkeypatch.setattr(demo.WordIndex, "store_text", lambda self, offset, data: None)
    monkeypatch.setattr(demo.Demo, "query", lambda self, index, admin, title: None)
    with pytest.raises(SystemExit, match="came back different"):
        demo.main(standard_library()[:40], queries=1)


def test_its_help_teaches_and_what_makes_no_sense_is_named(capsys):
    with pytest.raises(SystemExit, match="0"):
        demo.arguments(["--help"])
    assert "example: python -m examples.demo" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        demo.arguments(["--queries", "0"])
    assert "--queries: 0; allowed is 1 and more" in capsys.readouterr().err
    assert (demo.arguments([]).queries, demo.arguments([]).mechanism) == (demo.QUERIES, "auto")
