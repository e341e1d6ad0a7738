"""What the document of each command with `--format json` is made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.config_command import CheckDocument, ShowDocument
from usmd.ctl.debug_command import ReplayedDocument
from usmd.ctl.doctor_view import DoctorDocument
from usmd.ctl.json_schema import Document, Fields, ListOf
from usmd.ctl.record_view import RecordDocument
from usmd.ctl.reload_command import ReloadDocument
from usmd.ctl.replay_view import ReplayDocument
from usmd.ctl.top.rates import Rates

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
    "limit": (pb.SetLimitsResponse, pb.SetUserLimitsResponse),
    "limits": (Fields(users=ListOf(pb.UserInfo)),),
    "swap add": (pb.AddSwapDeviceResponse,),
    "swap retire": (pb.SwapRetirement, pb.CancelSwapRetirementResponse),
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
