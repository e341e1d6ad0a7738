"""docs/tiers.md: each configuration in it can be used, and its words for `--swap` are understood."""

import re
from pathlib import Path

import pytest

from usmd.config_source import Source
from usmd.core.running import Running
from usmd.server.policy_check import check_policies
from usmd.swap.mirror import MirrorKind
from usmd.swap.open import parse_swap_spec

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tiers.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^```toml\n(.*?)^```\n", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", TABLES)
def test_a_configuration_can_be_used(tmp_path, text):
    path = tmp_path / "usmd.toml"
    path.write_text(text)
    source = Source(path, environ={})
    assert source.problems(lambda rules, names: check_policies(rules, names, Running())) == []
    assert len(source.load().swap) in (1, 3)


def test_there_are_two_and_the_mirror_is_that_of_the_command_line(tmp_path):
    assert len(TABLES) == 2
    (words,) = re.findall(r"`(mirror:file:[^`]+)`", TEXT)
    path = tmp_path / "usmd.toml"
    path.write_text(TABLES[1])
    (mirror,) = Source(path, environ={}).load().swap
    assert isinstance(mirror, MirrorKind)
    said = parse_swap_spec(words)
    assert (said.far, said.local, said.late, said.repair_rate) == (
        mirror.far, mirror.local, mirror.late, mirror.repair_rate,
    )  # fmt: skip
