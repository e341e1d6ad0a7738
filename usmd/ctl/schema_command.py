"""`usmctl schema`: the JSON schema of what a command writes with `--format json`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.config_command import CheckDocument, ShowDocument
from usmd.ctl import completion
from usmd.ctl.as_json import write_document
from usmd.ctl.debug_command import ReplayedDocument
from usmd.ctl.doctor_view import DoctorDocument
from usmd.ctl.json_schema import Document, Fields, ListOf, Schema, schema_of
from usmd.ctl.record_view import RecordDocument
from usmd.ctl.reload_command import ReloadDocument
from usmd.ctl.replay_view import ReplayDocument
from usmd.ctl.top.rates import Rates
from usmd.errors import InvalidArgument

EPILOG = """Examples:

usmctl schema status

usmctl schema policy set

usmctl schema config check"""

TOP: Final = Fields(
    seconds=float,
    rates=Rates | None,
    status=pb.GetStatusResponse,
    processes=ListOf(Fields(pb.Process, rates=Rates | None)),
    swap_devices=ListOf(pb.SwapDevice),
)
DOCUMENTS: Final[dict[str, Sequence[Document]]] = {
    "status": (pb.GetStatusResponse,),
    "processes": (Fields(processes=ListOf(pb.Process)),),
    "regions": (Fields(regions=ListOf(pb.RegionInfo)),),
    "policies": (pb.ListPoliciesResponse,),
    "policy set": (pb.SetPolicyResponse,),
    "limit": (pb.SetLimitsResponse,),
    "swap": (Fields(swap_devices=ListOf(pb.SwapDevice)),),
    "hints": (pb.ListHintsResponse, pb.ClearHintsResponse),
    "map": (pb.GetMemoryMapResponse,),
    "explain": (pb.ExplainPageResponse, pb.ListEvictionsResponse),
    "record": (RecordDocument,),
    "shadow": (pb.ShadowReport,),
    "replay": (ReplayDocument,),
    "watch": (pb.Event,),
    "top": (TOP,),
    "debug validate": (pb.ValidateResponse,),
    "debug replay-events": (ReplayedDocument,),
    "reload": (ReloadDocument,),
    "drain": (pb.DrainResponse,),
    "doctor": (DoctorDocument,),
    "config check": (CheckDocument,),
    "config show": (ShowDocument,),
}
"""What each command's document is made from; those of several commands are one of several. The last two are usmd's."""


def schema(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            help=f"One of: {', '.join(DOCUMENTS)}. The last two are of usmd, all others of usmctl.",
            show_default=False,
            autocompletion=completion.one_of(DOCUMENTS),
        ),
    ],
) -> None:
    """Print the JSON schema (draft 2020-12) of what a command writes with --format json.

    The schema is made from the types of this version, and has every field. watch, shadow and map --watch write a
    document a line, and all others one. Needs no daemon.
    """
    write_document(schema_for(" ".join(words)), sys.stdout)


def schema_for(command: str) -> Schema:
    """The schema of a command; raises InvalidArgument for one that writes no JSON."""
    documents = DOCUMENTS.get(command)
    if documents is None:
        raise InvalidArgument(f"{command!r} is not a command with --format json; allowed are {', '.join(DOCUMENTS)}")
    return schema_of(f"{'usmd' if command.startswith('config ') else 'usmctl'} {command} --format json", documents)
