"""Lines of keys: where a person would look."""

import pytest

from usmd.toml_lines import line_of, lines_of

TEXT = '''# comment
top = 1
[server]  # a section
socket = "/a"
 "quoted" = 1
text = """
memory.size = "no key"
"""
[ memory ]
size = "64MiB"
[[swap]]
kind = "memory"
size = "1MiB"

[[swap]]
kind = "file"
[[policy.rules]]
glob = "a[b]"
uid.x = 1
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("top", 2),
        ("server", 3),
        ("server.socket", 4),
        ("server.quoted", 5),
        ("server.text", 6),
        ("server.absent", 3),
        ("memory.size", 10),
        ("swap[0].size", 13),
        ("swap[1].kind", 16),
        ("swap[1].size", 15),  # which is missing there
        ("policy.rules[0].glob", 18),
        ("policy.rules[0].uid.x", 19),
        ("policy.rules[1].uid", None),
        ("absent", None),
        ("", None),
    ],
)
def test_a_key_is_on_its_line_and_one_that_is_missing_on_that_of_its_table(key, line):
    assert line_of(key, lines_of(TEXT)) == line


def test_text_of_several_lines_has_no_keys_and_nothing_is_found_in_nothing():
    assert 7 not in lines_of(TEXT).values()
    assert lines_of("") == {}


def test_a_table_within_one_of_an_array_is_that_of_the_last_one():
    text = (
        '[[swap]]\nkind = "memory"\n[[swap]]\nkind = "mirror"\n[swap.far]\nsize = "1MiB"\n[swap.local]\n[other.far]\n'
    )
    lines = lines_of(text)
    assert line_of("swap[1].far.size", lines) == 6
    assert line_of("swap[1].local.size", lines) == 7
    assert line_of("other.far", lines) == 8
    assert line_of("swap[0].far", lines) == 1
