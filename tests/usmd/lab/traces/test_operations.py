"""Words for operations, in the spellings of the tools that write them."""

import pytest

from usmd.lab.traces.operations import NO_ACCESS, OPERATIONS, READ, WRITE, kind_of


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (
            ["get", "GET", " Gets ", "get-lease", "GET LEASE", "op_get", "OP_GET", "req-read", "touch", "MGET", "RA"],
            READ,
        ),
        (["set", "cas", "incr", "decr", "append", "prepend", "Read-Modify-Write", "cmd_set", "WSM", "true"], WRITE),
        (["delete", "DEL", "op_delete", "flush_all", "flush-all", "D", "noop"], NO_ACCESS),
        (["jump", "", "op_", "getter", "2", "op_op_get"], None),
    ],
)
def test_a_word_is_known_in_its_spellings(words, kind):
    assert [kind_of(word) for word in words] == [kind] * len(words)


def test_each_word_has_one_kind_and_is_plain():
    assert set(OPERATIONS.values()) == {READ, WRITE, NO_ACCESS}
    assert all(kind_of(word.upper()) == kind for word, kind in OPERATIONS.items())
