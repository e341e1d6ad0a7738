"""What a new configuration changes about the swap devices."""

import pytest

from usmd.server.swap_changes import changes_of
from usmd.swap.file import FileKind
from usmd.swap.memory import MemoryKind
from usmd.swap.mirror import MirrorKind


def memory(size, name=None):
    return MemoryKind(size=size, name=name)


def file(path, size=1, name=None):
    return FileKind(size=size, path=path, name=name)


A, B, C = memory(1), memory(2, "b"), file("/c")


@pytest.mark.parametrize(
    ("old", "new", "added", "retired"),
    [
        ((A, B), (A, B), [], []),
        ((A, B), (B, A), [], []),
        ((A, B), (B,), [], [0]),
        ((A, A), (A,), [], [1]),
        ((A,), (A, C), [C], []),
        ((A, B), (A, memory(3)), [memory(3)], [1]),
        ((A,), (memory(3),), [memory(3)], [0]),  # without a name it is another one
        ((), (A,), [A], []),
    ],
)
def test_what_is_new_is_added_and_what_is_left_out_retires(old, new, added, retired):
    changes = changes_of(old, new, dict(enumerate(old)))
    assert changes == (added, retired, new)


@pytest.mark.parametrize(("before", "after"), [(B, memory(3, "b")), (C, file("/c", 2)), (B, file("/d", 1, "b"))])
def test_one_that_keeps_its_name_or_its_file_and_changes_needs_a_restart(before, after):
    assert changes_of((A, before), (after, A), {0: A, 1: before}) == ([], [], (before, A))


def test_a_mirror_with_a_file_of_another_device_is_that_device_changed():
    mirror = MirrorKind(far=memory(1), local=C)
    assert changes_of((A, C), (A, mirror), {0: A, 1: C}) == ([], [], (A, C))
    assert changes_of((A, mirror), (A,), {0: A, 1: mirror}) == ([], [1], (A,))


def test_what_an_operator_has_done_already_is_not_done_again():
    assert changes_of((A,), (A, C), {0: A, 1: C}) == ([], [], (A, C))
    assert changes_of((A, C), (A,), {0: A}) == ([], [], (A,))


def test_a_device_that_an_operator_added_is_none_of_the_configuration():
    assert changes_of((A,), (A, B), {0: A, 1: A}) == ([B], [], (A, B))
