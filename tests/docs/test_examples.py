"""Every Python example of the README and of docs/, run as it stands against a daemon with its defaults.

A block that imports is a program. Any other is a part of one, which has a `client` and a `region` of 2,048 pages.
docs/writing-a-policy.md and docs/extending.md have tests of their own.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.support.clients import run_python
from tests.support.daemon import running_daemon
from tests.support.real_memory import require_real_memory

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
OTHERS = {"writing-a-policy.md", "extending.md"}
AROUND = "import lib_usm\nclient = lib_usm.connect()\nregion = client.mmap(2048 * client.page_size)\n{}client.close()\n"


def examples():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```\n", text, re.DOTALL | re.MULTILINE):
            if page.name not in OTHERS:
                yield pytest.param(match[1], id=f"{page.name}:{text[: match.start()].count(chr(10)) + 2}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    require_real_memory()  # which docs/real-memory.md is about
    with running_daemon(tmp_path_factory.mktemp("usmd"), mechanism="") as daemon:
        yield daemon


def shown(code):
    """What a comment behind a print says that it prints."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("code", [*examples()])
def test_an_example_runs_and_prints_what_it_says(daemon, code):
    imports = any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(code).body)
    code = code if imports else AROUND.format(code)
    done = run_python(code, said="\n", filtered="error", USM_ADDRESS=daemon.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each for each in shown(code) if each not in done.stdout.splitlines()] == []


def test_the_examples_are_found():
    found = {each.id.partition(":")[0] for each in examples()}
    assert {"README.md", "hints.md", "real-memory.md", "uthreads.md"} <= found
