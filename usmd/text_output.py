"""Writes text of any origin to a terminal, a pipe or a file, in any encoding. All output goes through here.

Names of processes, regions and files come from other programs. They may contain characters that the output's encoding
lacks, bytes that are not text, and control characters that would control the operator's terminal.
"""

from __future__ import annotations

import codecs
import io
import sys
from functools import lru_cache
from typing import Final, TextIO

ESCAPES: Final = "usmd.escapes"
"""Name of the error handler that writes missing characters in ASCII, so that no write fails for them."""
_IN_ASCII: Final = {"…": "...", "·": ".", "µ": "u", "→": "->", "≥": ">=", "≤": "<="}
_UNDECODABLE: Final = range(0xDC80, 0xDD00)
"""Code points by which Python represents bytes of a file's name that are not text."""


def printable(text: str, encoding: str | None = None) -> str:
    """Return `text` with escapes for characters that could control a terminal, or that the encoding lacks.

    `encoding` None is that of standard output. Use it for text of other programs: names, hints, reasons. Tables measure
    the result.
    """
    if text.isascii() and text.isprintable():
        return text
    target = encoding or encoding_of(sys.stdout)
    return "".join(c if c.isprintable() and _is_in(target, c) else _escaped(c) for c in text)


def encoding_of(stream: TextIO | None) -> str:
    """The encoding of a stream; UTF-8 if it has none, such as a StringIO."""
    return getattr(stream, "encoding", None) or "utf-8"


def complain(program: str, text: object) -> None:
    """Write `text` as one line on standard error, whatever names it contains."""
    try:
        sys.stderr.write(f"{program}: {printable(str(text), encoding_of(sys.stderr))}\n")
        sys.stderr.flush()
    except OSError:
        return  # the error cannot be reported on the stream that failed


def use_escapes(*streams: TextIO | None) -> None:
    """Make `streams` (none: both standard streams) write characters that their encoding lacks in ASCII."""
    for stream in streams or (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)
    if not streams and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # an undecodable answer to a question must not raise


def to_json(document: object, encoding: str = "utf-8", *, indent: int = 0) -> str:
    r"""Return `document` as JSON that `encoding` can represent; it may contain any text.

    Characters that the encoding lacks, or that could control a terminal, become JSON escapes, which keep the value. A
    byte of a file's name that is not text becomes the text `\xHH`, because JSON cannot represent it.
    """
    import msgspec  # which tables, help and complaints do without

    try:
        encoded = msgspec.json.encode(document)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_as_text(msgspec.to_builtins(document)))
    text = (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    if text.isascii():
        return text.replace("\x7f", "\\u007f")
    return "".join(c if c == "\n" or (c.isprintable() and _is_in(encoding, c)) else _json_escape(c) for c in text)


@lru_cache(maxsize=4096)
def _is_in(encoding: str, character: str) -> bool:
    """True if the encoding keeps the character: in EUC-JP a yen sign is decoded as a backslash."""
    try:
        return character.encode(encoding).decode(encoding) == character
    except (UnicodeError, LookupError):
        return character.isascii()


def _escaped(character: str) -> str:
    if ord(character) in _UNDECODABLE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _as_text(value: object) -> object:
    """`value`, plain data, with escapes for all that UTF-8 cannot represent."""
    if isinstance(value, str):
        return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return value


def _write_escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or _escaped(c) for c in lacking), error.end


codecs.register_error(ESCAPES, _write_escapes)
