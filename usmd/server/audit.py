"""Puts every call of an operator that is more than a look into the log, with the process and the user that made it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from usmd import log
from usmd.errors import UsmdError
from usmd.safe_repr import MAX_MESSAGE, cut
from usmd.server.admission import Context
from usmd.server.operators import Operator
from usmd.swap.remote.address import hide_passwords

LOOKS: Final = frozenset((
    "GetStatus", "ListProcesses", "ListRegions", "ListPolicies", "ListSwapDevices", "GetMemoryMap", "ListHints",
    "ExplainPage", "ListEvictions", "ListUsers", "WatchEvents",
))  # fmt: skip
"""Calls that are not logged, because they change nothing and cost little. Every other call is, and so each new one."""
Call = Callable[[Any, Context], Awaitable[Any]]


def audited(
    descriptor: ServiceDescriptor, servicer: object, caller: Callable[[Context], Operator | None]
) -> SimpleNamespace:
    """The methods of a service, each of which logs its calls unless it is one of LOOKS. `caller`: who makes a call."""
    methods: dict[str, Call] = {each.name: getattr(servicer, each.name) for each in descriptor.methods}
    return SimpleNamespace(
        **{name: work if name in LOOKS else _logged(name, work, caller) for name, work in methods.items()}
    )


def _logged(name: str, work: Call, caller: Callable[[Context], Operator | None]) -> Call:
    async def call(request: Message, context: Context) -> object:
        operator = caller(context)
        who: dict[str, object] = {"call": name, "pid": operator and operator.pid, "uid": operator and operator.uid}
        who["request"] = cut(hide_passwords(text_format.MessageToString(request, as_one_line=True)), MAX_MESSAGE)
        try:
            answer = await work(request, context)
        except UsmdError as error:
            log.event("operator_refused", **who, reason=error.reason, message=cut(str(error), MAX_MESSAGE))
            raise
        except BaseException:  # raised again: the caller has left, or it is a defect, and something may have been done
            log.event("operator_acted", **who)
            raise
        log.event("operator_acted", **who)
        return answer

    return call
