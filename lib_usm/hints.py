"""Hints of an application, and what they and pins keep in memory: the calls, and what the daemon answers."""

from __future__ import annotations

from typing import NamedTuple

from lib_usm.arguments import encodable
from lib_usm.channel import SessionChannel
from lib_usm.errors import InvalidHint
from lib_usm.user_warnings import warn, warn_over_budget
from usm_wire.pb.usm.v1 import client_pb2


class Hint(NamedTuple):
    """A hint as the daemon took it: byte ranges are rounded outward to pages."""

    hint_id: int
    """Number of the hint in usmctl; 0 when hints were removed, and for WILLNEED or DONTNEED alone, done at once."""
    first_page: int
    page_count: int
    over_budget_pages: int
    """Resident pages that asked for EVICTION=DENY beyond the budget and remain evictable."""
    unheeded_keys: tuple[str, ...] = ()
    """Keys that no policy of the process acts on, as far as its policies say what they heed."""


class Kept(NamedTuple):
    """What a session keeps in memory, in pages."""

    unevictable_pages: int
    """Kept by EVICTION=DENY."""
    pinned_pages: int
    budget_pages: int
    """May be kept, both ways together."""
    room_pages: int
    """May still be kept now; other sessions may have used the budget that all share."""
    refused_pages: int
    """Asked for EVICTION=DENY beyond the budget, each time that they did; they are evictable."""


def give_hint(channel: SessionChannel, region_id: int, name: str, text: str, offset: int, length: int) -> Hint:
    """Say `text` about a range of a region; warnings call it `name`. Raises InvalidHint, and what the call does."""
    request = client_pb2.HintRegionRequest(
        region_id=region_id, offset=offset, length=length, text=encodable(text, "hint", InvalidHint)
    )
    answer = channel.call(channel.stub.HintRegion, request)
    unheeded = tuple(answer.unheeded_keys)
    if unheeded:
        warn(
            f"no policy of this process acts on {' or '.join(unheeded)} of the hint {text!r} on {name}; "
            "`usmctl policies` shows which there are, `usmctl policy set` gives the process others"
        )
    if answer.over_budget_pages:
        warn_over_budget(answer.over_budget_pages)
    return Hint(answer.hint_id, answer.first_page, answer.page_count, answer.over_budget_pages, unheeded)


def ask_kept(channel: SessionChannel) -> Kept:
    """Ask what the session keeps. Raises what the call does."""
    answer = channel.call(channel.stub.GetKept, client_pb2.GetKeptRequest())
    return Kept(
        answer.unevictable_pages, answer.pinned_pages, answer.budget_pages, answer.room_pages, answer.refused_pages
    )
