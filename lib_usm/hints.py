"""Hints of an application, and the pages that hints and pins keep in memory: the calls and their answers."""

from __future__ import annotations

from typing import NamedTuple

from lib_usm.arguments import encodable
from lib_usm.channel import SessionChannel
from lib_usm.errors import InvalidHint
from lib_usm.user_warnings import warn, warn_over_budget
from usm_wire.pb.usm.v1 import client_pb2


class Hint(NamedTuple):
    """A hint as the daemon stored it, rounded outward to pages."""

    hint_id: int
    """Number of the hint in usmctl. 0 if hints were removed, or for WILLNEED or DONTNEED alone, which are not
    stored."""
    first_page: int
    page_count: int
    over_budget_pages: int
    """Resident pages for which the budget of EVICTION=DENY was too small; they remain evictable."""
    unheeded_keys: tuple[str, ...] = ()
    """Keys that no policy of the process acts on, as far as the policies declare their keys."""


class Kept(NamedTuple):
    """The pages that a session keeps in memory, and the budget for them."""

    unevictable_pages: int
    """Kept by EVICTION=DENY."""
    pinned_pages: int
    budget_pages: int
    """Most pages that may be kept, denied and pinned together."""
    room_pages: int
    """Pages that may still be kept now; all sessions share the budget."""
    refused_pages: int
    """Pages refused by EVICTION=DENY for lack of budget, counted at each refusal; they are evictable."""


def give_hint(channel: SessionChannel, region_id: int, name: str, text: str, offset: int, length: int) -> Hint:
    """Give the hint `text` on a range of a region, called `name` in warnings.

    Raises InvalidHint and what the call raises.
    """
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
    """Ask for the session's kept pages. Raises what the call raises."""
    answer = channel.call(channel.stub.GetKept, client_pb2.GetKeptRequest())
    return Kept(
        answer.unevictable_pages, answer.pinned_pages, answer.budget_pages, answer.room_pages, answer.refused_pages
    )
