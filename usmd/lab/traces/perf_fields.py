"""The fields of a line of `perf script`: finds the number that is the address of the accessed data.

perf prints fields in a fixed order, whatever the order in `-F`, and names none of them:

    comm pid/tid [cpu] time: period event: address data_source |decoded|… weight ip symbol (file) physical …

Consider the bare hexadecimal words after the event's name (or after the time if there is no event). The last is the
instruction's address if a symbol or file follows, and a data source if its decoded form does. The address of the data
is the first of the others. Fields of tracepoints have names, and only those of page faults include an address of data.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

TIME: Final = re.compile(r"(?<!\S)([0-9]{1,12}\.[0-9]{1,12}):(?!\S)")
EVENT: Final = re.compile(r"(?<!\S)(\S+):(?!\S)")

_LEADING: Final = re.compile(r"\s*(?:(?:[0-9]+\s+)?(?P<event>\S+):(?!\S)\s*)?")
_WORDS: Final = re.compile(r"\s*(?:[0-9a-fA-F]{1,16}(?:\s+|$))*")
_AFTER_INSTRUCTION: Final = re.compile(r"\s(?:insn|ilen):(?:\s|$).*", re.DOTALL)
_MODIFIERS: Final = re.compile(r"(?::[ukhGHpPSDWIeb]*)?$")
_BREAKPOINT: Final = re.compile(r"mem:(?:0x)?[0-9a-fA-F]+(?:/[0-9]+)?(?::(?P<kind>[rwx]+))?")
_PAGE_FAULTS: Final = re.compile(r"(?:page-|minor-|major-)?faults(?![^:])")
_SECOND_INSTRUCTION: Final = re.compile(r"\s(?=[a-fA-F]*[0-9])[0-9a-fA-F]{4,16}\s+[^\s|]")
_BRANCHES: Final = re.compile(r"(?:\w+/)?(?:branch|br_|br-|intel_bts|cs_etm|intel_pt)", re.IGNORECASE)
_OF_CODE: Final = re.compile(
    r"(?:\w+/)?(?:(?:cpu-|ref-|bus-)?cycles|instructions|inst_retired|cpu_clk|uops|topdown|slots|stalled|cpu-clock"
    r"|task-clock|context-switches|cs(?![^:])|(?:cpu-)?migrations|(?:alignment|emulation)-faults|bpf-output|dummy)",
    re.IGNORECASE,
)
"""Events counted where code runs: the only address of such a sample is the instruction's."""
_FAULT_TRACEPOINTS: Final = frozenset(
    {"exceptions:page_fault_user", "exceptions:page_fault_kernel", "kvm:kvm_page_fault"}
)
_FAULT: Final = re.compile(r"(?<!\S)address[= ](?:0x)?([0-9a-fA-F]{1,16})")
_ERROR_CODE: Final = re.compile(r"(?<!\S)error_code[= ](?:0x)?([0-9a-fA-F]{1,8})")
_WRITE_FAULT: Final = 2
"""The bit of a page fault's error code that marks a write."""
_PERIOD_END: Final = 11
"""Column after a time where a period ends: perf prints a blank and at least 10 digits; an address has 16."""


class Sample(NamedTuple):
    """An access in one line."""

    address: int
    write: bool
    time: float = 0.0


def sample_after(line: str, start: int) -> Sample | None:
    """The sample in the fields after the time, which ends at `start`; None without an address of data."""
    leading = _LEADING.match(line, start)
    end = leading.end() if leading else start
    event = leading["event"] if leading else None
    if event is not None:
        return sample_of(event, line, end)
    words, following = _words(line, end)
    if words and _is_period(line, start, words[0], alone=len(words) == 1 and not following):
        del words[0]
    return _sample(_UNNAMED, words, following, line)


def sample_of(name: str, line: str, start: int) -> Sample | None:
    """The sample in the fields of the event `name`, which ends at `start`; None without an address of data."""
    event = _event(name)
    if event.tracepoint:
        return _fault(line[start:]) if event.faults else None
    if event.branches or "PERF_RECORD_" in line:
        return None
    words, following = _words(line, start)
    if not following and len(words) == 1 and event.code:
        return None
    return _sample(event, words, following, line)


class _Event(NamedTuple):
    """What an event's name says about its fields."""

    tracepoint: bool = False
    """The event is called system:name, and its fields have names."""
    faults: bool = False
    branches: bool = False
    """The address is the branch's target."""
    code: bool = False
    writes: bool = False


_UNNAMED: Final = _Event()


@lru_cache(maxsize=1024)
def _event(name: str) -> _Event:
    watched = _BREAKPOINT.match(name)
    plain = _MODIFIERS.sub("", name)
    tracepoint = ":" in plain and "/" not in name and not watched
    return _Event(
        tracepoint=tracepoint,
        faults=bool({name, plain} & _FAULT_TRACEPOINTS if tracepoint else _PAGE_FAULTS.match(name)),
        branches=bool(_BRANCHES.match(name)),
        code=bool(_OF_CODE.match(name)),
        writes=watched["kind"] == "w" if watched else "store" in name.lower(),
    )


def _sample(event: _Event, words: list[str], following: str, line: str) -> Sample | None:
    if following.startswith("|"):
        del words[-1:]  # the data source
    elif following and not following.startswith("/") and not _has_symbol(event, words, following):  # "/": a cgroup
        del words[-1:]
        if words and len(words[0]) <= 4 and words[0].isdecimal():  # a weight: so low an address is never mapped
            return None
    address = int(words[0], 16) if words else 0
    return Sample(address, write=event.writes or "|OP STORE" in line) if address else None


def _words(line: str, start: int) -> tuple[list[str], str]:
    """The bare hexadecimal words from `start` on, and the text after them."""
    text = line[start:]
    if "insn:" in text or "ilen:" in text:  # followed by the bytes of the instruction
        text = _AFTER_INSTRUCTION.sub("", text)
    match = _WORDS.match(text)
    end = match.end() if match else 0
    words = text[:end].split()
    for n, word in enumerate(words[1:], 1):
        if word.isalpha() and len(word) < 8:  # a function with a name such as `add` or `feed`
            return words[:n], " ".join(words[n:]) + " " + text[end:]
    return words, text[end:].rstrip()


def _has_symbol(event: _Event, words: list[str], following: str) -> bool:
    """True if the first word is an address followed by its own symbol, as perf prints it for page faults."""
    return event.faults and len(words) == 1 and _SECOND_INSTRUCTION.search(f" {following}") is not None


def _is_period(line: str, start: int, word: str, *, alone: bool) -> bool:
    """True if a word after the time, with no event printed, is the period, judged by perf's right alignment."""
    end = line.index(word, start) + len(word) - start
    return word.isdecimal() and (end == _PERIOD_END if alone else end < 16) and not (alone and end == len(word) + 1)


def _fault(fields: str) -> Sample | None:
    """The sample of a tracepoint for page faults."""
    address, code = _FAULT.search(fields), _ERROR_CODE.search(fields)
    if address is None:
        return None
    return Sample(int(address[1], 16), write=bool(code and int(code[1], 16) & _WRITE_FAULT))
