"""docs/extending.md, followed to the letter in a copy of this project: what it adds works, and is four files at most.

A fenced block after "File `NAME`:" is that file. A block of `diff` names a file in its first line; lines that begin
with a blank are in it, exactly once, and those that begin with `+` come below them.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.daemon import environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
DEVICE, HINT_KEY = "A swap device", "A hint key"
COPIED = (
    "usmd", "lib_usm", "usm_wire", "proto", "docs", "tools", "bench", "tests/support", "tests/usmd/swap",
    "tests/usmd/core/test_hints.py", "tests/usmd/server/test_hint_messages.py", "tests/contracts/test_swap_devices.py",
    "pyproject.toml",
)  # fmt: skip
NO_CACHE = ("-p", "no:cacheprovider")


def files(section):
    """The files that a section adds, by name."""
    return dict(re.findall(r"\bFile `([^`]+)`:\n\n```\w*\n(.*?)^```$", SECTIONS[section], re.DOTALL | re.MULTILINE))


def changes(section):
    """The changes of a section: file, lines that are there, lines below them."""
    for block in re.findall(r"^```diff\n(.*?)^```$", SECTIONS[section], re.DOTALL | re.MULTILINE):
        name, *lines = block.splitlines()
        there = [line[1:] for line in lines if line.startswith(" ")]
        added = [line[1:] for line in lines if line.startswith("+")]
        assert [f" {line}" for line in there] + [f"+{line}" for line in added] == lines, f"not a change: {block}"
        yield name, there, added


def follow(section, root):
    """Do what a section says to a copy of the project; returns the files that it changed or added."""
    for name, text in files(section).items():
        assert not (root / name).exists()
        (root / name).write_text(text, encoding="utf-8")
    touched = set(files(section))
    for name, there, added in changes(section):
        before = (root / name).read_text(encoding="utf-8").splitlines()
        places = [at for at in range(len(before)) if before[at : at + len(there)] == there]
        assert len(places) == 1, f"{name} has these lines {len(places)} times: {there}"
        end = places[0] + len(there)
        (root / name).write_text("\n".join([*before[:end], *added, *before[end:]]) + "\n", encoding="utf-8")
        touched.add(name)
    return touched


def run(root, *command, **changed):
    environ = environment(PYTHONPATH=os.pathsep.join([str(root), *changed.pop("path", [])]), **changed)
    done = subprocess.run(
        [sys.executable, *command], cwd=root, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def passed(said):
    """How many tests passed, by what pytest said."""
    return int(re.search(r"(\d+) passed", said)[1])


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "copy"
    for name in COPIED:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)  # with what is compiled already
        else:
            shutil.copy(ROOT / name, target)
    return root


def test_a_device_is_four_files_and_passes_the_contract_of_all_devices(copy):
    touched = follow(DEVICE, copy)
    assert touched == {
        "usmd/swap/memfd.py",
        "usmd/swap/kinds.py",
        "tests/usmd/swap/test_memfd.py",
        "docs/operating.md",
    }
    own = "tests/usmd/swap/test_memfd.py"
    assert passed(run(copy, "-m", "pytest", "-q", *NO_CACHE, own)) == 1
    said = run(copy, "-m", "pytest", "-q", *NO_CACHE, "tests/contracts/test_swap_devices.py", "-k", "memfd")
    assert passed(said) > 30
    run(copy, "-m", "ruff", "check", "--no-cache", "usmd/swap/memfd.py", own)
    run(copy, "-m", "ruff", "format", "--no-cache", "--check", "usmd/swap/memfd.py", own)
    program = "from usmd.swap.open import parse_swap_spec as parse; from usmd.swap import kinds; "
    program += "print(parse('memfd:4KiB').size, kinds.forms())"
    said = run(copy, "-c", program)
    assert said.startswith("4096 memory:SIZE, compressed:SIZE, memfd:SIZE")


def test_a_hint_key_is_four_files_and_has_text_errors_and_a_typed_field(copy):
    touched = follow(HINT_KEY, copy)
    assert touched == {
        "usmd/core/hints.py",
        "proto/usm/v1/common.proto",
        "tests/usmd/core/test_hints.py",
        "docs/hints.md",
    }
    run(copy, "tools/generate_proto.py", PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    tests = ("tests/usmd/core/test_hints.py", "tests/usmd/server/test_hint_messages.py")
    said = run(copy, "-m", "pytest", "-q", *NO_CACHE, *tests, "-k", "reuse or REUSE or every_field or typed")
    assert passed(said) > 4
    program = """
from usm_wire.pb.usm.v1.common_pb2 import HintFields
from usmd.server.hint_messages import fields_from_hint, hint_from_fields
hint = hint_from_fields(HintFields(reuse=HintFields.REUSE_ONCE))
print(hint.text, hint.read_once, fields_from_hint(hint).reuse == HintFields.REUSE_ONCE)
"""
    assert run(copy, "-c", program) == "REUSE=ONCE True True\n"


def test_a_device_of_a_package_is_found_by_its_entry_point_and_passes_the_same_contract(tmp_path):
    name, source = next((name, text) for name, text in files(DEVICE).items() if name.startswith("usmd/swap/"))
    (project,) = re.findall(r"^```toml\n(.*?)^```$", SECTIONS[DEVICE], re.DOTALL | re.MULTILINE)
    ((group, points),) = tomllib.loads(project)["project"]["entry-points"].items()
    assert points.keys() == {"memfd"}
    information = tmp_path / "usmd_memfd-1.0.dist-info"
    information.mkdir()
    (tmp_path / Path(name).name).write_text(source, encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: usmd-memfd\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\nmemfd = {points['memfd']}\n")
    suite = (
        "-m",
        "pytest",
        "-q",
        *NO_CACHE,
        "tests/contracts/test_swap_devices.py",
        "-k",
        "memfd and (sequence or batch)",
    )
    assert passed(run(ROOT, *suite, path=[str(tmp_path)])) > 3
    said = run(ROOT, "-m", "usmd", "serve", "--help", path=[str(tmp_path)], COLUMNS="200")
    assert "memfd:..." in said


def test_every_file_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:usmd|lib_usm|usm_wire|tests|docs|proto|tools)/[\w./-]+)`", text))
    added = {name for section in (DEVICE, HINT_KEY) for name in files(section)}
    assert [name for name in sorted(named - added) if not (ROOT / name).exists()] == []
    assert len(named) > 20
