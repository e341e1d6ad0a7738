"""The bench of programs on far memory: its programs check what they read, and a side that fails is named."""

import mmap

import numpy as np
import pytest

from bench import far_program, far_programs
from bench.far_program import Settings
from bench.kernel_memory import UnavailableError

SIZE = 1 << 20


@pytest.mark.parametrize("work", ["sort", "store"])
def test_the_programs_do_their_work_in_the_kernel_s_memory(work):
    result = far_program.run(Settings(work=work, size=SIZE, requests=100))
    assert (result.wrong, result.seconds > 0) == (0, True)


def test_an_array_that_is_not_in_order_ends_the_program(monkeypatch):
    class Unsorted(np.ndarray):
        def sort(self):
            pass

    with pytest.raises(SystemExit, match="not in order"):
        far_program.sort(np.frombuffer(mmap.mmap(-1, SIZE), np.float64).view(Unsorted))


def test_a_value_that_is_not_what_was_stored_is_counted(monkeypatch):
    def lose(store, plan):
        for key in plan.keys[:3]:
            store.put(key, bytes(store.value_size))

    monkeypatch.setattr(far_program, "serve_by_kernel", lose)
    assert far_program.run(Settings(work="store", size=SIZE, requests=1)).wrong == 3


def test_a_side_that_refuses_a_work_is_named_once_and_the_others_are_measured(monkeypatch, capsys):
    def refuse(work):
        if work == "sort":
            raise UnavailableError("no page to reclaim")
        return 2.0

    monkeypatch.setattr(far_programs, "ROUNDS", 2)
    times = far_programs.measure({"one": refuse, "other": lambda _: 1.0})
    assert times == {"sort": {"other": [1.0, 1.0]}, "store": {"one": [2.0, 2.0], "other": [1.0, 1.0]}}
    assert capsys.readouterr().out == "  sort, one: a round is skipped, no page to reclaim\n"
