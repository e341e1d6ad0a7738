import pytest
import typer

from examples import real_memory
from examples.real_memory import Counts, read_size, require, shares, whole_pages
from usmd.mechanism.uffd import Feature, Offer


def test_a_machine_without_real_memory_is_told_whom_to_ask(monkeypatch):
    monkeypatch.setattr(real_memory, "probe", lambda: Offer("", Feature(0), "no userfaultfd: Operation not permitted"))
    with pytest.raises(SystemExit) as stop:
        require()
    assert "no userfaultfd: Operation not permitted" in str(stop.value)
    assert "usmctl doctor" in str(stop.value)


def test_counts_tell_what_happened_in_between():
    assert Counts(5, 4, 3, 2, 1).since(Counts(1, 1, 1, 1, 1)) == Counts(4, 3, 2, 1, 0)


def test_sizes_are_read_in_whole_pages():
    assert read_size("1MiB") == 1 << 20
    assert whole_pages(4097) == 8192
    for text in ("many", "0", "5000"):
        with pytest.raises(typer.BadParameter):
            read_size(text)


def test_two_sizes_are_compared_for_people():
    assert shares(64 << 20, 16 << 20) == "64 MiB over 16 MiB of memory (4 times)"
