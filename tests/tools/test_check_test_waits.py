import pytest

from tools import check_test_waits as check


def rules(source):
    return [rule for _, rule in sorted(check.violations(source))]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\ntime.sleep(1)", ["sleep"]),
        ("from time import sleep as rest\nrest(1)", ["sleep"]),
        ("import asyncio\nasync def f(): await asyncio.sleep(0.1)", ["sleep"]),
        ("import asyncio\nasync def f(n): await asyncio.sleep(n)", ["sleep"]),
        ("import threading\nthreading.Event().wait(0.1)", ["sleep"]),
        ("import time\nwhile not ready():\n    time.sleep(0.1)", ["poll", "sleep"]),
        ("import asyncio\nasync def f():\n    while not ready():\n        await asyncio.sleep(0)", ["poll"]),
        ("import time\nbegin = time.monotonic()", ["clock"]),
        ("import time\nbegin = time.thread_time()", ["clock"]),
        ("from time import perf_counter_ns\nassert perf_counter_ns() < 5", ["clock"]),
        ("assert daemon.log[-1] == {}", ["log"]),
        ("assert not daemon.stray", ["log"]),
    ],
)
def test_what_passes_by_chance_is_reported(source, found):
    assert rules(source) == found


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasync def f(): await asyncio.sleep(0)",
        "import time\ntime.sleep(1)  # waits: the program under test sleeps",
        "CODE = 'import time; time.sleep(1)'",
        "event.wait(1)",
        "while not found:\n    found = queue.get()",
        "import time\nmonkeypatch.setattr(time, 'monotonic', clock)",
        "daemon.expect('ready')",
        "math.log(2)",
        "scene.log == []",
    ],
)
def test_what_waits_for_a_condition_or_says_why_not_is_let_through(source):
    assert rules(source) == []


def test_a_reason_is_needed_and_not_only_the_word():
    assert rules("import time\ntime.sleep(1)  # waits:") == ["sleep"]


def test_places_are_printed_with_file_line_and_advice_and_the_helpers_themselves_are_exempt(tmp_path, capsys):
    for name in ("tests/e2e/test_a.py", *check.EXEMPT):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import time\n\ntime.sleep(1)\n")
    assert check.main(tmp_path) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("tests/e2e/test_a.py:3: sleep: a test waits for a condition")
