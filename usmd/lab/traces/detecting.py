"""Detects the format of a trace from its first bytes, never from its name; if unsure, raises an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from usmd.errors import TraceError
from usmd.lab.traces import columns as table_columns
from usmd.lab.traces import lackey, oracle_general, perf, recording
from usmd.lab.traces.context import shown
from usmd.lab.traces.lines import LINE_LIMIT, encoding_of

BINARY_SAMPLE = 4096
"""Bytes that are searched for a NUL, which shows a binary file."""
SAMPLES = (4096, 1 << 16, LINE_LIMIT)
"""Sizes of the samples; a larger one is taken only if the smaller ones have comments or part of a line alone."""

_TAR = slice(257, 265), b"ustar"
"""Place and value of a tar archive's mark."""
_TEXT_LINE = re.compile(r"\s*(?:-?[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16})(?:\s+(?:r|w|read|write))?\s*", re.IGNORECASE)
_ADVICE = "give the format: csv, lackey, oracle_general, perf, text or usm"
_ADVICE_FOR_TABLES = "if it is a table without a header, tell the columns by number, such as --columns id=2,time=1"


def detect(peek: Callable[[int], bytes], path: str, overrides: Mapping[str, str]) -> str:
    """The name of the format of a trace; `peek(n)` returns its first n bytes, `overrides` are names of columns.

    Raises TraceError if no format fits.
    """
    head = peek(BINARY_SAMPLE)
    if head.startswith(recording.MAGIC):
        return "usm"
    mark, encoding = encoding_of(head)
    wide = encoding != "utf-8" and _is_text(head[len(mark) :], encoding)
    if b"\0" in head and not wide:
        if oracle_general.plausible(head):
            return "oracle_general"
        if head[_TAR[0]].startswith(_TAR[1]):
            raise TraceError(f"{path} is a tar archive; unpack it: tar -xf")
        if any(_is_text(head, each) for each in ("utf-16-le", "utf-16-be")):
            raise TraceError(f"{path} is UTF-16 without a byte order mark; convert it: iconv -f UTF-16LE -t UTF-8")
        raise TraceError(f"{path} is binary, but no recording and not like oracle_general; {_ADVICE}")
    for length in SAMPLES:
        sample = peek(length)
        complete = len(sample) < length
        if wide:
            sample = sample[len(mark) :].decode(encoding, "ignore").encode()
        lines, comments = _lines(sample, path, complete=complete)
        if lines:
            return _of_lines(lines, comments, path, overrides)
        if complete:
            raise TraceError(f"{path} has comments only; give a trace with at least one access")
    raise TraceError(f"{path} has no line with an access in its first {SAMPLES[-1]:,} bytes; {_ADVICE}")


def _is_text(sample: bytes, encoding: str) -> bool:
    """True if a sample is text in an encoding of several bytes a character, and its first character is ASCII."""
    try:
        text = sample[: len(sample) // 4 * 4].decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            return False
        text = sample[: error.start].decode(encoding)
    return text[:1].isascii() and text[:1] != "\0" and "\0" not in text


def _lines(sample: bytes, path: str, *, complete: bool) -> tuple[list[str], list[str]]:
    """The whole lines in `sample` that are neither blank nor valgrind's own messages; and those that are comments."""
    if not complete:
        sample = sample[: sample.rfind(b"\n") + 1]
    try:
        text = sample.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}, byte {error.start}: not UTF-8, and no binary trace; {_ADVICE}") from None
    lines = [line for line in text.split("\n") if not lackey.ours(line)]
    return [line for line in lines if not line.startswith("#")], [line for line in lines if line.startswith("#")]


def _of_lines(lines: list[str], comments: list[str], path: str, overrides: Mapping[str, str]) -> str:
    if any(map(lackey.LINE.fullmatch, lines)):
        return "lackey"
    if table_columns.recognised(lines[0], overrides):
        return "csv"
    if all(map(_TEXT_LINE.fullmatch, lines)):
        return "text"
    if overrides:  # only tables have named columns; their reader reports which it found
        return "csv"
    if perf.recognised(lines):
        return "perf"
    if _TEXT_LINE.fullmatch(lines[0]):
        return "text"
    if any(map(table_columns.commented_header, comments)):
        return "csv"
    table = f"; {_ADVICE_FOR_TABLES}" if any(each in lines[0] for each in table_columns.DELIMITERS) else ""
    raise TraceError(f"{path} is in no format known here, by its line {shown(lines[0].strip())}; {_ADVICE}{table}")
