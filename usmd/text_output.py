"""How text of any origin is written to a terminal, a pipe or a file, whatever the encoding: the one door of all output.

Names of processes, regions and files come from elsewhere. They may hold characters that the output's encoding lacks,
bytes that are no text, and control characters that would steer the operator's terminal. Covers both standard streams of
the commands, names in tables and sentences, and JSON.
"""

from __future__ import annotations

import codecs
import io
import sys
from functools import lru_cache
from typing import Final, TextIO

import msgspec

ESCAPES: Final = "usmd.escapes"
"""Name of the error handler that writes a character that an encoding lacks in ASCII: no write fails for that."""
_IN_ASCII: Final = {"…": "...", "·": ".", "µ": "u", "→": "->", "≥": ">=", "≤": "<="}
_UNDECODABLE: Final = range(0xDC80, 0xDD00)
"""What Python makes of the bytes of a file's name that are no text."""


def printable(text: str, encoding: str | None = None) -> str:
    """Return `text` with an escape for each character that could steer a terminal, or that the encoding lacks.

    `encoding` None is that of standard output. For what comes from elsewhere: names, hints, reasons. A table measures
    what this returns.
    """
    if text.isascii() and text.isprintable():
        return text
    target = encoding or encoding_of(sys.stdout)
    return "".join(c if c.isprintable() and _is_in(target, c) else _escaped(c) for c in text)


def encoding_of(stream: TextIO | None) -> str:
    """Name of the encoding of a stream; UTF-8 if it has none, as a StringIO."""
    return getattr(stream, "encoding", None) or "utf-8"


def complain(program: str, text: object) -> None:
    """Write `text` as one line on standard error, whatever names it contains."""
    try:
        sys.stderr.write(f"{program}: {printable(str(text), encoding_of(sys.stderr))}\n")
        sys.stderr.flush()
    except OSError:
        return  # the stream that would carry the complaint is the one that failed


def use_escapes(*streams: TextIO | None) -> None:
    """Have `streams` (none: both standard streams) write characters that their encoding lacks in ASCII."""
    for stream in streams or (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)
    if not streams and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # no answer to a question is a failure to decode


def to_json(document: object, encoding: str = "utf-8", *, indent: int = 0) -> str:
    r"""Return `document` as JSON that `encoding` can hold; any text in it is taken.

    Characters that the encoding lacks, or that could steer a terminal, are JSON's own escapes, so that the value is the
    same. A byte of a file's name that is no text is the text `\xHH`, because JSON cannot say it.
    """
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
    """Whether the character comes back as it was: in EUC-JP a yen sign comes back as a backslash."""
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
    """`value`, plain data, with all that no UTF-8 can hold written out."""
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
