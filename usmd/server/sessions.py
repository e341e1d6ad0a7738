"""Sessions: tokens, the outboxes of fault streams, and how sessions end.

A session is found by its token alone, so a region or page of another session does not exist for a client. `end` submits
Detach; the core answers with Ended, and `_process_ended` closes the session. Everything here runs on the loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from usm_wire.conventions import TOKEN_KEY
from usmd import log
from usmd.core import commands, events
from usmd.core.region import DEFAULT_WEIGHT
from usmd.errors import Draining, LimitExceeded, SessionKilled, UnknownSession, UsmdError
from usmd.policy_rules import NO_CHOICE, Choice, PolicyRules
from usmd.safe_repr import MAX_MESSAGE, cut
from usmd.server import user_limits
from usmd.server.admission import SESSION_READS, SESSION_SECONDS, Turns
from usmd.server.allowance import Complaints
from usmd.server.engine import Engine
from usmd.server.few_a_turn import FewATurn
from usmd.server.identity import Identities, Identity
from usmd.server.policy_check import check_choice
from usmd.server.pressure_hearing import PressureHearing
from usmd.server.stream_messages import Drains, Entry

MAX_STREAMS: Final = 64
"""Streams that a session may have at a time."""
MAX_UNREAD_LOADS: Final = 8
"""Answers to a session's Load calls, of up to 1 MiB each, that its client has not read; further calls wait."""
REMEMBERED: Final = 1024
"""Sessions that usmd ended whose clients still get the reason, and ended ones whose numbers are not drawn again."""
ENDS_A_TURN: Final = 2
"""Sessions that are ended in one turn of the loop, because very many clients may end at the same time."""
STREAMS_A_TURN: Final = 4
"""Streams whose end is handled in one turn of the loop, as is the end of so many local connections."""
NOTICES_A_TURN: Final = 8
"""Streams that are told of a drain in one turn of the loop."""
FIRST_PROCESS: Final = 100_000
"""First number of a process that is drawn. If a drawn number is in use, the core chooses a lower one."""
LAST_PROCESS: Final = 999_999
"""Six digits, which an operator can type."""


def _tell(uid: int | None, pid: int | None, why: str, count: int) -> None:
    log.event("attach_refused", uid=uid, pid=pid, attaches=count, message=cut(why, MAX_MESSAGE))


def _nothing() -> None:
    """Do nothing: the default of `on_ended`."""


class Stream:
    """One fault stream of a session, until it is closed.

    `index` is its number in the session, and the `reply_to` of its faults. `outbox` holds entries to be written; `wake`
    is set when there are some. `on_ended` is called when the session has ended.
    """

    __slots__ = ("direct", "index", "on_ended", "outbox", "wake")

    def __init__(self, index: int) -> None:
        self.index = index
        self.outbox: list[Entry] = []
        self.wake = asyncio.Event()
        self.on_ended: Callable[[], None] = _nothing
        self.direct = False
        """The task that submits faults will write their outcomes, so the stream's writer is not woken for them."""


class Session:
    """One client and its streams. The first stream opened is the session's own: both end together."""

    __slots__ = (
        "deadline",
        "end_error",
        "ended",
        "ending",
        "identity",
        "on_ended",
        "on_room",
        "opened",
        "over_budget_told",
        "process_id",
        "reads",
        "room",
        "streams",
        "token",
        "unread_loads",
    )

    def __init__(self, token: str, process_id: int) -> None:
        self.token = token
        self.process_id = process_id
        self.streams: dict[int, Stream] = {}
        """Open streams by their index."""
        self.opened = 0
        """Streams opened so far, which is the index of the next."""
        self.reads = Turns(SESSION_READS, SESSION_SECONDS)
        """Turns in which the messages of the session's calls are read."""
        self.unread_loads = asyncio.Semaphore(MAX_UNREAD_LOADS)
        """Held by each Load from before its bytes are copied until gRPC has sent them."""
        self.room = asyncio.Event()
        """Set when its faults are fewer than its `max_faults` again."""
        self.on_room: Callable[[], None] = _nothing
        """Called when they are, and when the session has ended."""
        self.over_budget_told = 0
        """Pages beyond the budget of EVICTION=DENY in the last warning to the client."""
        self.identity: Identity | None = None
        self.deadline: asyncio.TimerHandle | None = None
        """Ends the session if its client opens no stream in time."""
        self.on_ended: Callable[[], None] = _nothing
        """Called when the session has ended."""
        self.ending = False
        """Whether `Sessions.end` was called, which may end it in a later turn of the loop."""
        self.ended = asyncio.Event()
        self.end_error: UsmdError | None = None
        """Error with which the streams end; None after a Detach."""

    def newly_over_budget(self, count: int) -> int:
        """`count`, the pages so far that DENY could not keep, if the client should be warned of so many; else 0."""
        if count < max(2 * self.over_budget_told, 1):
            return 0
        self.over_budget_told = count
        return count

    def open_stream(self) -> Stream:
        """Open a stream; raises LimitExceeded if MAX_STREAMS are open."""
        if len(self.streams) >= MAX_STREAMS:
            raise LimitExceeded(
                f"this session has {len(self.streams)} fault streams open; allowed are {MAX_STREAMS} at a time"
            )
        stream = self.streams[self.opened] = Stream(self.opened)
        self.opened += 1
        self.cancel_deadline()
        return stream

    def cancel_deadline(self) -> None:
        """Cancel the deadline, because a stream was opened or the session has ended."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Sessions:
    """All sessions of the daemon."""

    def __init__(
        self,
        engine: Engine,
        identities: Identities,
        rules: PolicyRules,
        *,
        max_sessions: int,
        of_user: int,
        attach_timeout: float,
    ) -> None:
        self._engine = engine
        self._identities = identities
        self.rules = rules
        """For new sessions; may be set at any time, as the limits may."""
        self.max_sessions = max_sessions
        self.of_user = of_user
        self._attach_timeout = attach_timeout
        self._by_token: dict[str, Session] = {}
        self._by_process: dict[int, Session] = {}
        self._end_errors: OrderedDict[str, UsmdError] = OrderedDict()
        self._ends = FewATurn(ENDS_A_TURN)
        self.stream_ends = FewATurn(STREAMS_A_TURN)
        """Spreads what follows from the end of a stream."""
        self._notices = FewATurn(NOTICES_A_TURN)
        self._ended: deque[int] = deque(maxlen=REMEMBERED)
        """Numbers of the processes that ended last."""
        self.draining = False
        """No new session begins."""
        self.drains_at: float | None = None
        """When sessions end, once notice of it was given; by the engine's clock."""
        self.pressure = PressureHearing()
        """Told by what brings pressure up to date."""
        self._hearing: dict[Stream, None] = {}
        """Open streams that are told of it."""
        self.refusals = Complaints(_tell, engine.now)
        """Callers that got no session."""
        for limits in user_limits.changes((), rules.users, engine.core.state):
            engine.submit(limits)
        engine.on_outcomes = self._deliver
        engine.on_ended = self._process_ended
        engine.on_faults_fit = self._faults_fit

    def __len__(self) -> int:
        return len(self._by_token)

    def attach(self, name: str, ticket: str, choice: Choice = NO_CHOICE) -> Session:
        """Begin a session, with the policies that its client chooses, if it does.

        Raises Draining, LimitExceeded, UnknownSession (an unknown ticket), or InvalidArgument or UnknownPolicy for the
        name or the choice.
        """
        identity: Identity | None = None
        pid = uid = None
        try:
            self._check_room()
            if ticket:
                identity = self._identities.find(ticket)
                pid, uid = identity.pid, identity.uid
            session = self._begin(name, pid, uid, choice)
        except BaseException as error:  # raised again
            if isinstance(error, UsmdError):
                self.refusals.add(uid, pid, str(error))
            if identity is not None:
                identity.close()  # its ticket is used, and without a session it is of no use
            raise
        loop = asyncio.get_running_loop()
        session.deadline = loop.call_later(self._attach_timeout, self._expect_stream, session)
        if identity is not None:
            session.identity = identity
            identity.on_gone = lambda: self.end(session, "its client is gone")
        return session

    def begin(self, name: str, pid: int, uid: int, choice: Choice, on_ended: Callable[[], None]) -> Session:
        """Begin a session without streams; the caller vouches for its process and watches it.

        Raises Draining, LimitExceeded, InvalidArgument or UnknownPolicy.
        """
        self._check_room()
        session = self._begin(name, pid, uid, choice)
        session.on_ended = on_ended
        session.opened = 1  # none of its streams is its own
        return session

    def _check_room(self) -> None:
        if self.draining:
            when = "is draining" if self.drains_at is None else f"ends all sessions in {self._left():.0f} s"
            raise Draining(f"usmd {when} and takes no new sessions")
        if len(self._by_token) >= self.max_sessions:
            raise LimitExceeded(f"there are {len(self._by_token)} sessions; server.max_sessions allows no more")

    def _begin(self, name: str, pid: int | None, uid: int | None, choice: Choice) -> Session:
        own = sum(each.uid == uid for each in self._engine.core.state.processes.values())
        if own >= self.of_user:
            whose = "users without a ticket" if uid is None else f"user {uid}"
            raise LimitExceeded(f"there are {own} sessions of {whose}; server.max_user_sessions allows no more")
        for kind, specification in (("alloc", choice.alloc), ("evict", choice.evict)):
            if specification:
                check_choice(kind, specification, self.rules.choices)
        policies, settings = self.rules.choose(name, uid, choice), self._engine.core.state.settings
        bound = choice.bound(policies.memory_frames(settings.frames, settings.page_size), settings.page_size)
        guaranteed = policies.guaranteed_frames(settings.frames, settings.page_size)
        attached = self._engine.submit(
            events.Attach(
                name,
                policies.alloc,
                policies.evict,
                policies.oom,
                pid=pid,
                uid=uid,
                swap_device=policies.swap,
                cond=policies.cond,
                memory_max=bound,
                number=self._number(),
                swap_max=policies.swap_pages(self._engine.core.state.swap.slots, settings.page_size),
                memory_min=guaranteed if bound is None else min(guaranteed, bound),
                memory_weight=policies.memory_weight or DEFAULT_WEIGHT,
                quotas=policies.quotas(settings.frames, settings.page_size),
            )
        )
        if not isinstance(attached, commands.Attached):
            raise TypeError(f"the core answered {attached!r} to Attach")
        session = Session(secrets.token_urlsafe(32), attached.process_id)
        self._by_token[session.token] = self._by_process[session.process_id] = session
        return session

    def _number(self) -> int:
        """Draw a process's number at random, so that it does not tell its client how many sessions begin."""
        while True:
            number = FIRST_PROCESS + secrets.randbelow(LAST_PROCESS - FIRST_PROCESS + 1)
            if number not in self._ended:
                return number

    def find(self, token: str | None) -> Session:
        """The session of a token; raises UnknownSession, or what usmd ended it with: SessionKilled or Draining."""
        session = self._by_token.get(token) if token else None
        if session is not None and not session.ending:
            return session
        end_error = session.end_error if session is not None else self._end_errors.get(token or "")
        if end_error is not None:
            raise type(end_error)(*end_error.args)
        raise UnknownSession("no session has this token; attach first and send it as metadata " + TOKEN_KEY)

    def end(self, session: Session, reason: str, error: UsmdError | None = None) -> None:
        """End a session if it has not ended; its streams end with `error`. Of many, some end in the next turns."""
        if session.token in self._by_token and not session.ending:
            session.ending, session.end_error = True, error
            self._ends.call(lambda: self._detach(session, reason))

    def _detach(self, session: Session, reason: str) -> None:
        if session.token in self._by_token:
            self._engine.submit(events.Detach(session.process_id, reason))

    def close_stream(self, session: Session, stream: Stream) -> None:
        """Close a stream, and end the session if it is the session's own; late outcomes of the stream are dropped."""
        session.streams.pop(stream.index, None)
        self._hearing.pop(stream, None)
        self.pressure.forget(session.process_id, stream)
        if stream.index == 0:
            self.end(session, "its fault stream ended")

    def hear(self, stream: Stream) -> None:
        """Tell a stream of a notice of the end: of one that is under way at once, and of one to come."""
        if stream not in self._hearing:
            self._hearing[stream] = None
            self._give_notice(stream)

    def hear_pressure(self, session: Session, stream: Stream, thresholds: Sequence[float]) -> None:
        """Tell a stream when the pressure on its session passes thresholds. Raises InvalidArgument or LimitExceeded."""
        if stream.index in session.streams and not session.ended.is_set():
            self.pressure.hear(session.process_id, stream, thresholds)

    def tell_draining(self, at: float) -> None:
        """Begin no more sessions, and tell the streams that want to hear of it, some in the next turns."""
        self.draining, self.drains_at = True, at
        for stream in self._hearing:
            self._notices.call(partial(self._give_notice, stream))

    def _give_notice(self, stream: Stream) -> None:
        if self.drains_at is not None and stream in self._hearing:
            stream.outbox.append(Drains(self._left()))
            stream.wake.set()

    def _left(self) -> float:
        return 0.0 if self.drains_at is None else max(self.drains_at - self._engine.now(), 0.0)

    def end_all(self, reason: str) -> int:
        """End all sessions because the daemon drains, as `end` does; returns how many."""
        sessions = list(self._by_token.values())
        for session in sessions:
            self.end(session, reason, Draining(reason))
        return len(sessions)

    async def finish(self) -> None:
        """Wait until the sessions that `end` was called for have ended."""
        await self._ends.turn()

    def _expect_stream(self, session: Session) -> None:
        if not session.opened:
            self.end(session, f"no fault stream was opened within {self._attach_timeout:g} s")

    def _deliver(self, command: commands.Outcomes) -> None:
        session = self._by_process.get(command.process_id)
        if session is None:
            return
        stream = session.streams.get(command.reply_to)
        if stream is not None:  # else it was closed meanwhile
            stream.outbox.extend(command.outcomes)
            if not stream.direct:
                stream.wake.set()

    def _faults_fit(self, command: commands.FaultsFit) -> None:
        session = self._by_process.get(command.process_id)
        if session is not None:
            session.room.set()
            session.on_room()

    def _process_ended(self, ended: commands.Ended) -> None:
        session = self._by_process.pop(ended.process_id)
        self._ended.append(ended.process_id)
        del self._by_token[session.token]
        if ended.killed:
            session.end_error = SessionKilled(ended.reason)
        if session.end_error is not None:
            self._end_errors[session.token] = session.end_error
            if len(self._end_errors) > REMEMBERED:
                self._end_errors.popitem(last=False)
        if session.identity is not None:
            session.identity.close()  # or a client could pile up connections that no session needs
        session.cancel_deadline()
        session.ended.set()
        session.on_room()
        for stream in session.streams.values():
            stream.on_ended()
        session.on_ended()
