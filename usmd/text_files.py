"""Text that people wrote in whichever editor: a byte order mark, UTF-16 and line ends of other systems are understood.

Covers whole small files. Traces are read in parts (usmd/lab/traces/lines.py) and know the same marks.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # which begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and the encodings of what follows them; text without a mark is UTF-8."""


def read_text(path: Path) -> str:
    r"""The text of a file, its lines ending with \n. Raises OSError, and UnicodeDecodeError for what is no text."""
    data = path.read_bytes()
    mark, encoding = next((each for each in MARKS if data.startswith(each[0])), (b"", "utf-8"))
    return data[len(mark) :].decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
