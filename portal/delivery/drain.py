"""3 DELIVERY: a worker drains lanes: what is due goes out, and what came back is recorded.

One thread, hundreds of requests in flight. Each webhook has a line of its own: a cap on its
requests in flight, and a small buffer of what is due, so that one that hangs holds its cap and
nothing else. The database stays the truth: a row is due until its result is committed.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable

from flask import Flask, current_app
from redis.exceptions import RedisError

from portal import queues
from portal.clock import now
from portal.delivery import access_tokens, health, holding, lanes, recording
from portal.delivery.access_tokens import Client
from portal.delivery.compose import ComposeError, Outgoing, Payload
from portal.delivery.due import Due
from portal.delivery.lines import Line, Lines
from portal.delivery.outcome import PAYLOAD_EXPIRED
from portal.delivery.recorder import Batch, Recorder
from portal.delivery.recording import Tried
from portal.delivery.retry import IN_TROUBLE, SLOW_DOWN, UNAUTHORIZED
from portal.delivery.sharing import Sharing
from portal.delivery.transfer import Answer
from portal.delivery.transport import Transport
from portal.delivery.wakes import Wakes
from portal.errors import Unavailable
from portal.ids import new_id
from portal.processes import open_files
from portal.seldom import Seldom

MAX_IN_FLIGHT = 1_000
"""Requests in flight of one worker, over all its webhooks."""
FILES, OTHER_FILES = 4_096, 128
"""Open files that a worker asks the system for, and how many of them are no requests."""
RECORD_COUNT, RECORD_SECONDS = 500, 0.05
"""Results are written when there are this many, or when the oldest waited this long."""
POLL_SECONDS = 0.5
ADOPT_SECONDS = 0.2
LINGER_SECONDS = 8.0
"""How long an idle worker keeps its lanes, listening for more."""
KEEP_ALIVE_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 60.0

_Request = tuple[Line, Due, Outgoing | Client, str, int] | Line
"""What is in flight: a delivery's request, or that for the access token which it needs, with the
attempt's request ID and its moment; or, as a held webhook's line alone, a look whether somebody
listens there."""

_log = logging.getLogger(__name__)
_seldom = Seldom(_log, 10)


def drain(
    lane: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    keep_alive: Callable[[], None] = lambda: None,
) -> int:
    """Send what is due in a lane, and in lanes that nobody else takes, until there is nothing
    left for a few seconds; how many attempts were made.

    `should_stop` ends it early: what is in flight is finished and recorded, the rest is left to
    the next owner. `keep_alive` is called now and then.
    """
    run = _Drain(lane)
    try:
        if run.take(lane):
            run.loop(should_stop, keep_alive)
        return run.attempts
    finally:
        run.close()


class _Drain:
    """A drain that was called for a lane. The transport and the recorder are its ways out; others
    may be handed in, to see what it does with receivers that nobody could wait for."""

    def __init__(
        self, lane: int, transport: Transport[_Request] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._config = current_app.config["PORTAL"]
        self._owner = f"{queues.this_process()}:{uuid.uuid4().hex[:8]}"
        self._tokens: dict[int, int] = {}
        self._lines = Lines()
        self._transport = transport or Transport[_Request](
            self._config.egress_allow, self._config.inspect_url
        )
        self._done: list[tuple[Line, Tried]] = []
        self._oldest_done = 0.0
        self._unrecorded = False
        """Whether results may be under way to the database; renewing leases does not count."""
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._recorder = recorder or Recorder(app, self._config)
        self._holding = holding.Holding(
            self._lines, self._transport, self._recorder, self._tokens, self._config
        )
        self._transport.watch(self._recorder.bell)
        self._wakes = Wakes(self._transport)
        self._next: dict[str, float] = {}
        self._sharing = Sharing(lane)
        self._most = min(MAX_IN_FLIGHT, max(1, open_files(FILES) - OTHER_FILES))
        self._rest = 0
        """How long nobody takes its lanes once they are given back, in µs."""
        self.attempts = 0

    def take(self, lane: int) -> bool:
        """Lease a lane and listen for its wake-up calls; False when another owns it."""
        token = lanes.lease(lane, self._owner)
        if token is None:
            return False
        self._tokens[lane] = token
        self._wakes.listen(lane)
        return True

    def loop(self, should_stop: Callable[[], bool], keep_alive: Callable[[], None]) -> None:
        idle_since = time.monotonic()
        look = True
        while self._tokens:
            stopping = should_stop()
            if not stopping:
                called = self._wakes.called()
                look |= called or self._every("poll", POLL_SECONDS)
                try:
                    self._lines.read(self._tokens if look else None, self._sharing.leaving)
                    look = False
                    if self._every("adopt", ADOPT_SECONDS):
                        look = self._adopt()
                    self._share()
                except Unavailable as error:
                    _seldom.warn(
                        error.trouble, "What is due cannot be read now. "
                        f"{error.trouble.sentence if error.trouble else error}",
                    )
                    time.sleep(0.2)
                self._submit()
                if self._every("probe", holding.SECONDS):
                    self._holding.look_after(self._sharing.leaving)
            for tag, answer in self._transport.run(self._pause()):
                if isinstance(tag, Line):
                    self._holding.take_look(tag, answer)
                else:
                    self._take(*tag, answer)
            self._take_written()
            if self._ready_to_record():
                self._record()
            if not self._recorder.is_busy and self._every("heartbeat", lanes.HEARTBEAT / 1e6):
                self._recorder.put(Batch(dict(self._tokens)))
            if self._every("keep_alive", KEEP_ALIVE_SECONDS):
                keep_alive()
            if self._transport.in_flight or self._done or self._unrecorded:
                idle_since = time.monotonic()
            elif stopping:
                break
            elif self._sendable():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER_SECONDS:
                break

    def close(self) -> None:
        """Record what came back, give the lanes back, and pass on what is left in them: each of it
        whatever becomes of the others. Raises nothing."""
        for step in (
            self._record_rest, self._recorder.close, self._take_written, self._wakes.close,
            self._transport.abort, self._give_back,
        ):
            try:
                step()
            except Exception:  # noqa: BLE001 - the other parts are due all the same
                self._rest = lanes.REST
                _log.exception("A part of a drain's end has failed.")

    def _record_rest(self) -> None:
        if self._done:
            self._record()

    def _give_back(self) -> None:
        mine = set(self._tokens)
        try:
            lanes.release(self._tokens, rest=self._rest)
            # Work that came in after the last look, before the wake-up call was unsubscribed.
            for lane in mine.intersection(lanes.forgotten()):
                queues.replace_drain(lane)
        except (Unavailable, RedisError) as error:
            _log.warning("Lanes %s were left to the sweep: %s", sorted(mine), error)

    def _every(self, what: str, seconds: float) -> bool:
        moment = time.monotonic()
        if moment < self._next.get(what, 0.0):
            return False
        self._next[what] = moment + seconds
        return True

    def _pause(self) -> float:
        wait = ADOPT_SECONDS
        if self._done and not self._recorder.is_busy:
            wait = min(wait, max(0.0, self._oldest_done + RECORD_SECONDS - time.monotonic()))
            if not self._transport.in_flight:
                return 0.0
        moment = now()
        for line in self._lines:
            if line.buffer and line.rate:
                wait = min(wait, max(0.0, line.next_start - time.monotonic()))
            elif line.health.held_at is not None:
                wait = min(wait, self._holding.seconds_to(line, moment))
        return wait

    def _sendable(self) -> bool:
        return any(line.buffer and line.health.held_at is None for line in self._lines)

    # -- out and back -----------------------------------------------------------------------

    def _submit(self) -> None:
        """Start requests until the caps are reached: merchants take turns, and so do the webhooks
        of each."""
        moment = now()
        waiting: dict[int, deque[Line]] = {}
        for line in self._lines:
            if line.buffer and line.room(moment) and line.lane != self._sharing.leaving:
                waiting.setdefault(line.merchant_id, deque()).append(line)
        turns = deque(waiting.values())
        while turns and self._transport.in_flight < self._most:
            turn = turns.popleft()
            line = turn.popleft()
            self._send(line, self._lines.take(line))
            if line.buffer and line.room(moment):
                turn.append(line)
            if turn:
                turns.append(turn)

    def _send(self, line: Line, due: Due) -> None:
        moment = now()
        request_id = new_id("req")
        line.start()
        if due.payload is None:
            answer = Answer(
                error=PAYLOAD_EXPIRED, error_detail="The event's record data is past its days."
            )
            self._take_answer(line, due, None, request_id, moment, answer)
        else:
            self._request(line, due, due.payload, request_id, moment)

    def _request(
        self, line: Line, due: Due, payload: Payload, request_id: str, moment: int
    ) -> None:
        """Start an attempt's request; where it needs an access token, start with that."""
        client = line.client
        if client is not None and line.lacks_token(moment):
            line.waits_for_token = True
            self._transport.submit(
                access_tokens.request(client), access_tokens.SECONDS,
                (line, due, client, request_id, moment),
            )
            return
        try:
            outgoing = line.composer.compose(due.event_id, payload, moment)
        except ComposeError as error:
            answer = Answer(error=error.code, error_detail=error.detail)
            self._take_answer(line, due, None, request_id, moment, answer)
            return
        self._transport.submit(
            outgoing, line.timeout_seconds, (line, due, outgoing, request_id, moment)
        )

    def _take(
        self, line: Line, due: Due, asked: Outgoing | Client, request_id: str, moment: int,
        answer: Answer,
    ) -> None:
        """Take the answer to a request; with an access token the attempt goes on."""
        if isinstance(asked, Outgoing):
            if answer.status == UNAUTHORIZED and line.client is not None:
                access_tokens.forget(line.client, moment)
            self._take_answer(line, due, asked, request_id, moment, answer)
            return
        line.waits_for_token = False
        try:
            access_tokens.take(asked, answer, now())
        except access_tokens.TokenRefused as error:
            failed = Answer(error=error.code, error_detail=str(error))
            self._take_answer(line, due, None, request_id, moment, failed)
            return
        if self._lines.get(due.webhook_id) is line and due.payload is not None:
            self._request(line, due, due.payload, request_id, now())

    def _take_answer(
        self, line: Line, due: Due, outgoing: Outgoing | None, request_id: str, moment: int,
        answer: Answer,
    ) -> None:
        if self._lines.get(due.webhook_id) is not line:
            # The lane was lost meanwhile, and whoever owns it now makes this attempt too.
            return
        tried = Tried(request_id, due, line.method, line.url, outgoing, answer, moment, now())
        line.end(
            moment, tried.ok, answer.status in SLOW_DOWN or answer.error in IN_TROUBLE,
            min(tried.retry_after() or 0, LONGEST_PAUSE_SECONDS),
        )
        if not self._done:
            self._oldest_done = time.monotonic()
        self._done.append((line, tried))

    # -- the log ----------------------------------------------------------------------------

    def _ready_to_record(self) -> bool:
        if not self._done or self._recorder.is_busy:
            return False
        waited = time.monotonic() - self._oldest_done
        return (
            len(self._done) >= RECORD_COUNT
            or waited >= RECORD_SECONDS
            or not self._transport.in_flight
        )

    def _record(self) -> None:
        """Decide what each result means, and hand all of it to the recorder."""
        done, self._done = self._done, []
        moment = now()
        batch = Batch(dict(self._tokens))
        before = {line.webhook_id: line.health for line, _ in done}
        for line, tried in done:
            change = recording.settle(tried, line.schedule)
            batch.tried.append((line.lane, tried, change))
            line.take_health(
                health.after_attempt(
                    line.health, tried.outcome, tried.attempted_at, moment, self._config,
                    gone=tried.gone, was_last=change.get("state") == "failed",
                    is_kept=recording.is_kept(tried, line.schedule),
                    asked_seconds=tried.retry_after() or 0,
                )
            )
        for line in {line.webhook_id: line for line, _ in done}.values():
            self._holding.note(batch, line, before[line.webhook_id], moment)
        self._unrecorded = True
        self._recorder.put(batch)

    def _take_written(self, wait_seconds: float = 0.0) -> None:
        found = self._recorder.take(wait_seconds)
        self._unrecorded = self._unrecorded and self._recorder.is_busy
        for written in found:
            self.attempts += len(written.tried)
            for tried in written.tried:
                if (line := self._lines.get(tried.due.webhook_id)) is not None:
                    line.known.discard(tried.due.id)
                    if line.ordered or line.health.held_at is not None:
                        # What this one held back may be due now, or another may be the next probe.
                        line.start_over()
            if written.lost:
                self._leave(written.lost)

    # -- lanes ------------------------------------------------------------------------------

    def _leave(self, lost: set[int]) -> None:
        for lane in lost:
            self._tokens.pop(lane, None)
        self._lines.drop(lost)
        self._done = [(line, tried) for line, tried in self._done if line.lane not in lost]

    def _adopt(self) -> bool:
        """Take one lane whose work nobody does, because its worker died or all are busy."""
        lane = next(filter(self._sharing.may_take, lanes.forgotten()), None)
        return lane is not None and self.take(lane)

    def _share(self) -> None:
        """Hand a lane over where that is due (portal.delivery.sharing)."""
        if self._sharing.is_time():
            waiting = {
                line.lane for line in self._lines
                if line.buffer and line.health.held_at is None
            }
            self._sharing.choose(
                waiting, is_idle=not waiting and not self._transport.in_flight,
                somebody_idle=self._wakes.take_somebody_idle(),
                waited_seconds=self._transport.waited_seconds,
            )
        if self._sharing.leaving is None:
            return
        lines = [line for line in self._lines if line.lane == self._sharing.leaving]
        for line in lines:
            self._lines.drop_buffer(line)
            line.may_have_more = True
        lane = self._sharing.ready(under_way=any(line.known for line in lines))
        if lane is not None and lane in self._tokens:
            self._lines.drop([lane])
            self._wakes.leave(lane)
            lanes.release({lane: self._tokens.pop(lane)})
            with contextlib.suppress(RedisError):
                queues.replace_drain(lane)
