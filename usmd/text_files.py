"""Reads small text files of any editor: with a byte order mark, in UTF-16 or UTF-32, with line ends of other systems.

Traces are read in parts (usmd/lab/traces/lines.py) with the same marks.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and their encodings; text without a mark is UTF-8."""


def read_text(path: Path) -> str:
    r"""The text of a file, with \n as line ends. Raises OSError, and UnicodeDecodeError if it is not text."""
    data = path.read_bytes()
    mark, encoding = next((each for each in MARKS if data.startswith(each[0])), (b"", "utf-8"))
    return data[len(mark) :].decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
