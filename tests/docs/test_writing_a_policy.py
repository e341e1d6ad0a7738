"""docs/writing-a-policy.md, followed to the letter: its files are written, its commands run, its output compared.

A fenced block after "File `NAME`:" or "a file `NAME`:" is that file. A block of `sh` is a command in a terminal: what
serves or waits for enter goes on while others run. A block without a language after a command is what that shows: each
of its lines must be there, in this order, whatever the numbers in it are; "..." stands for lines left out.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.daemon import environment, wait_until
from tests.support.shell import PAGE as PAGE_BYTES
from tests.support.shell import Shell, make_core

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "writing-a-policy.md"
PROMPT = "enter ends it"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the section it is in, and the file it is, if it is one."""

    language: str
    text: str
    section: str
    file: str | None


def read_blocks():
    text = PAGE.read_text(encoding="utf-8")
    found = []
    section, end = "", 0
    for match in re.finditer(r"^```(\w*)\n(.*?)^```\n", text, re.DOTALL | re.MULTILINE):
        between = text[end : match.start()]
        end = match.end()
        section = ([section, *re.findall(r"^## (.*)$", between, re.MULTILINE)])[-1]
        named = re.search(r"\b[Ff]ile\s+`([^`]+)`[^`]*:\n\n\Z", between)
        found.append(Block(match[1], match[2], section, named[1] if named else None))
    return found


BLOCKS = read_blocks()
HINTS = "Hints of your own, and how to name victims"


def in_section(title, language=None):
    return [each for each in BLOCKS if each.section == title and language in (None, each.language)]


def file(name):
    (found,) = [each for each in BLOCKS if each.file == name]
    return found.text


def commands(title):
    """The commands of a section, each with what the page says that it shows."""
    found = in_section(title)
    following = [*found[1:], None]
    return [
        (each.text.strip(), after.text if after is not None and after.language == "" else None)
        for each, after in zip(found, following, strict=True)
        if each.language == "sh"
    ]


def likened(text):
    """Lines without what differs between two runs: numbers, and how wide a column is."""
    return [" ".join(re.sub(r"\d[\d.,]*", "N", line).split()) for line in text.splitlines() if line.strip()]


def compare(shown, actual):
    left = iter(likened(actual))
    for line in likened(shown):
        assert line == "..." or line in left, f"the page shows {line!r}, not in this order in:\n{actual}"


class Terminals:
    """Shells in one folder, as the page wants them: `usmd` is found, and the runtime folder is private."""

    def __init__(self, folder, **changes):
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environ = environment(PATH=path, XDG_RUNTIME_DIR=str(folder), PYTHONDONTWRITEBYTECODE="1", **changes)

    def write(self, name):
        """Make a file of the page."""
        (self.folder / name).write_text(file(name), encoding="utf-8")

    def run(self, command, shown=None, cwd=None):
        done = subprocess.run(
            ["bash", "-c", command], cwd=cwd or self.folder, env=self.environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        if shown is not None:
            compare(shown, done.stdout)
        return done.stdout

    @contextlib.contextmanager
    def serving(self, command):
        """A daemon until Ctrl-C."""
        log = self.folder / "usmd.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environ, stderr=stderr
            )
        try:
            wait_until(lambda: '"event": "ready"' in log.read_text() or process.poll() is not None, "usmd is ready")
            assert process.poll() is None, log.read_text()
            yield log
            process.send_signal(signal.SIGINT)
            assert process.wait(90) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def waiting(self, command):
        """A program that waits for enter, from then on."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environ, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            said = ""
            while PROMPT not in said:
                letter = process.stdout.read(1)
                assert letter, f"{command} ended after {said!r}"
                said += letter
            yield
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(90) == 0
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture
def terminals(tmp_path):
    return Terminals(tmp_path)


def test_every_block_is_one_that_these_tests_use():
    files = [each.file for each in BLOCKS if each.file]
    assert files == [
        "cflru.py",
        "test_cflru.py",
        "table.py",
        "app.py",
        "pyproject.toml",
        "tests/usmd/policies/evict/test_cflru.py",
    ]
    sections = {each.section for each in BLOCKS if each.language == "sh"}
    assert sections == {"Its test", "On a trace", HINTS, "On live memory", "As a package", "In this project"}


def test_the_policy_loads_by_its_path_and_its_test_passes(terminals):
    terminals.write("cflru.py")
    terminals.write("test_cflru.py")
    ((command, _),) = commands("Its test")
    assert command.startswith("python -m pytest ")
    assert "3 passed" in terminals.run(f"{command} -p no:cacheprovider")


def test_it_runs_on_live_memory_from_its_file(terminals):
    terminals.write("cflru.py")
    terminals.write("app.py")
    (serve, _), (program, _), *looks = commands("On live memory")
    assert (serve.split()[:2], program, len(looks)) == (["usmd", "serve"], "python app.py", 2)
    with terminals.serving(serve) as log, terminals.waiting(program):
        for command, shown in looks:
            assert shown
            terminals.run(command, shown)
        assert "policy_error" not in log.read_text()


def test_it_stands_inside_another_policy_as_the_page_says(terminals):
    terminals.write("cflru.py")
    terminals.write("app.py")
    (inside,) = re.findall(r"`(--evict 'hint_aware\([^`]*')`", PAGE.read_text(encoding="utf-8"))
    (serve, _), (program, _), *_ = commands("On live memory")
    with terminals.serving(f"{serve.partition(' --evict')[0]} {inside}"), terminals.waiting(program):
        assert "ALLOW: dirty, least recently used" in terminals.run("usmctl explain app data+1000KiB")


def test_it_is_built_as_a_package_and_found_by_its_entry_point(terminals, tmp_path):
    terminals.write("cflru.py")
    terminals.write("pyproject.toml")
    (install, _), (serve, _), (look, shown), (suite, _) = commands("As a package")
    assert install == "python -m pip install ."
    target = tmp_path / "target"
    offline = f"--quiet --disable-pip-version-check --no-index --no-build-isolation --no-deps --target {target}"
    terminals.run(f"{install} {offline}")
    installed = Terminals(tmp_path, PYTHONPATH=str(target))
    with installed.serving(serve):
        installed.run(look, shown)
    # The page's last test, and this project's suite, with the name that the entry point gives; both in one run.
    mine = tmp_path / "in_tree" / "test_cflru.py"
    mine.parent.mkdir()
    mine.write_text(file("tests/usmd/policies/evict/test_cflru.py"))
    said = installed.run(f"{suite} -rp -p no:cacheprovider --rootdir {ROOT} {mine}", cwd=ROOT)
    passed = re.findall(r"^PASSED (.*?)::", said, re.MULTILINE)
    of_the_suite = passed.count("tests/contracts/test_policies.py")
    assert of_the_suite > 2
    assert len(passed) - of_the_suite == 2


def test_it_is_compared_with_another_on_a_trace(terminals):
    terminals.write("cflru.py")
    ((command, shown),) = commands("On a trace")
    check_replay(terminals, command, shown)


def test_policies_with_hints_of_their_own_are_compared_on_a_scan(terminals):
    terminals.write("table.py")
    for command, shown in commands(HINTS):
        check_replay(terminals, command, shown)


def check_replay(terminals, command, shown):
    """The table that a replay shows, and every word in it but the last of a line, which is how fast it was."""
    assert shown
    said = terminals.run(command, shown)

    def rows(text):
        return [line.split()[:-1] for line in text.splitlines()[1:]]

    assert rows(said) == rows(shown)


def test_the_row_for_this_projects_own_table_names_the_class_of_the_page():
    (row,) = [each.text for each in in_section("In this project", "python") if each.file is None]
    name, target = eval(f"{{{row}}}").popitem()
    module, _, attribute = target.partition(":")
    assert (name, module) == ("cflru", f"usmd.policies.evict.{name}")
    assert f"class {attribute}(EvictPolicy)" in file("cflru.py")


def test_the_conditional_policy_brings_pages_back_one_by_one(tmp_path):
    (block,) = in_section("Conditional policies")
    path = tmp_path / "drip.py"
    path.write_text(block.text)
    path.chmod(0o644)
    shell = Shell(make_core(frames=10))
    process = shell.attach(cond=f"{path}:Drip")
    region = shell.map(process, 3)
    for page in range(3):
        shell.put(process, region, page, bytes([page + 1]) * PAGE_BYTES)
        shell.evict(process, region, page, 1)
    states = []
    for _ in range(3):
        shell.tick(0.1)
        states.append([shell.state_of(region, page) for page in range(3)].count("SWAPPED"))
    assert states == [2, 1, 0]
    assert shell.counters()["policy_errors"] == 0
