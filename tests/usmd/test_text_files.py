"""Files of other systems' editors are read as those of this one."""

import codecs

import pytest

from usmd.text_files import read_text

TEXT = "one\ntwo \N{SNOWMAN}\n\nthree"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_marks_and_line_ends_do_not_matter(tmp_path, mark, encoding, end):
    path = tmp_path / "text"
    path.write_bytes(mark + TEXT.replace("\n", end).encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize("data", [b"\xff1", b"\xff\xfe1", b"\xef\xbb\xbf\xff", b"caf\xe9"])
def test_what_is_no_text_is_an_error(tmp_path, data):
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "text")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        read_text(tmp_path / "none")
