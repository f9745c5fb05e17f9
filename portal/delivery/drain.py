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

import sqlalchemy as sa
from flask import Flask, current_app
from redis.exceptions import RedisError

from portal import queues
from portal.clock import now
from portal.delivery import health, lanes, recording
from portal.delivery.compose import ComposeError, Outgoing
from portal.delivery.lines import BOTH, Line, size
from portal.delivery.recorder import Batch, Recorder
from portal.delivery.recording import PAYLOAD_EXPIRED, Due, Tried
from portal.delivery.retry import IN_TROUBLE, SLOW_DOWN
from portal.delivery.sharing import Sharing
from portal.delivery.transport import Answer, Transport
from portal.delivery.wakes import Wakes
from portal.errors import Unavailable
from portal.extensions import db, reading
from portal.ids import new_id
from portal.models import Webhook
from portal.processes import open_files

MAX_IN_FLIGHT = 1_000
"""Requests in flight of one worker, over all its webhooks."""
FILES, OTHER_FILES = 4_096, 128
"""Open files that a worker asks the system for, and how many of them are no requests."""
BUFFER = 200
"""Deliveries read ahead for one webhook."""
BUFFER_BYTES = 32 * 1024 * 1024
"""Payload read ahead for all webhooks; beyond it, a webhook gets one delivery at a time."""
RECORD_COUNT, RECORD_SECONDS = 500, 0.05
"""Results are written when there are this many, or when the oldest waited this long."""
POLL_SECONDS = 0.5
ADOPT_SECONDS = 0.2
LINGER_SECONDS = 8.0
"""How long an idle worker keeps its lanes, listening for more."""
KEEP_ALIVE_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 60.0

_log = logging.getLogger(__name__)


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
    def __init__(self, lane: int) -> None:
        self._config = current_app.config["PORTAL"]
        self._owner = f"{queues.this_process()}:{uuid.uuid4().hex[:8]}"
        self._tokens: dict[int, int] = {}
        self._lines: dict[str, Line] = {}
        self._transport: Transport[tuple[Line, Due, Outgoing, str, int]] = Transport(
            self._config.egress_allow, self._config.inspect_url
        )
        self._done: list[tuple[Line, Tried]] = []
        self._oldest_done = 0.0
        self._unrecorded = False
        """Whether results may be under way to the database; renewing leases does not count."""
        self._buffered_bytes = 0
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._recorder = Recorder(app, self._config)
        self._transport.watch(self._recorder.bell)
        self._wakes = Wakes(self._transport)
        self._next: dict[str, float] = {}
        self._sharing = Sharing(lane)
        self._most = min(MAX_IN_FLIGHT, max(1, open_files(FILES) - OTHER_FILES))
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
                    self._read(look)
                    look = False
                    if self._every("adopt", ADOPT_SECONDS):
                        look = self._adopt()
                    self._share()
                except Unavailable as error:
                    _log.warning("What is due cannot be read now: %s", error)
                    time.sleep(0.2)
                self._submit()
            for tag, answer in self._transport.run(self._pause()):
                self._take_answer(*tag, answer)
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
        """Record what came back, give the lanes back, and pass on what is left in them."""
        if self._done:
            self._record()
        self._recorder.close()
        self._take_written()
        self._wakes.close()
        self._transport.abort()
        mine = set(self._tokens)
        try:
            lanes.release(self._tokens)
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
            wait = max(0.0, self._oldest_done + RECORD_SECONDS - time.monotonic())
            if not self._transport.in_flight:
                return 0.0
        for line in self._lines.values():
            if line.buffer and line.rate:
                wait = min(wait, max(0.0, line.next_start - time.monotonic()))
        return wait

    def _sendable(self) -> bool:
        return any(
            line.buffer and line.health.held_at is None for line in self._lines.values()
        )

    # -- what is due ------------------------------------------------------------------------

    def _read(self, look: bool) -> None:
        """Read ahead what is due; where there is a `look`, find the webhooks that have something
        due first. One transaction, since each costs PostgreSQL three round trips."""
        if not look and not self._to_fill():
            return
        with reading():
            if look:
                self._look()
            for line in self._to_fill():
                self._fill(line)

    def _look(self) -> None:
        """Find the webhooks that have something due, and take over changes of their settings."""
        moment = now()
        due = [lanes.has_due(moment, is_retry=is_retry) for is_retry in BOTH]
        rows = db.session.execute(
            sa.select(Webhook.id, Webhook.updated_at, *due).where(
                Webhook.lane.in_(sorted(self._tokens)), Webhook.enabled,
                Webhook.deleted_at.is_(None), sa.or_(*due),
            )
        ).all()
        wanted = {row.id for row in rows}
        for webhook_id, line in list(self._lines.items()):
            if webhook_id not in wanted:
                # Disabled, deleted, or nothing due: what was read ahead is not sent.
                self._drop_buffer(line)
                if not line.known:
                    del self._lines[webhook_id]
        for webhook_id, updated_at, *kinds in rows:
            line = self._lines.setdefault(webhook_id, Line())
            expired = line.secrets_until is not None and line.secrets_until <= moment
            if line.updated_at != updated_at or expired:
                self._drop_buffer(line)
                line.take_settings(db.session.get_one(Webhook, webhook_id), moment)
            line.start_over([kind for kind, is_due in zip(BOTH, kinds, strict=True) if is_due])

    def _drop_buffer(self, line: Line) -> None:
        self._buffered_bytes -= line.drop_buffer()

    def _to_fill(self) -> list[Line]:
        moment = now()
        return [
            line for line in self._lines.values()
            if line.may_have_more and not line.buffer and line.room(moment)
            and line.lane != self._sharing.leaving
        ]

    def _fill(self, line: Line) -> None:
        """Read what is due for a webhook; one delivery at a time while much is read ahead."""
        self._buffered_bytes += line.fill(
            BUFFER if self._buffered_bytes < BUFFER_BYTES else 1, now()
        )

    # -- out and back -----------------------------------------------------------------------

    def _submit(self) -> None:
        """Start requests until the caps are reached: merchants take turns, and so do the webhooks
        of each."""
        moment = now()
        waiting: dict[int, deque[Line]] = {}
        for line in self._lines.values():
            if line.buffer and line.room(moment) and line.lane != self._sharing.leaving:
                waiting.setdefault(line.merchant_id, deque()).append(line)
        turns = deque(waiting.values())
        while turns and self._transport.in_flight < self._most:
            turn = turns.popleft()
            line = turn.popleft()
            self._send(line, line.buffer.popleft())
            if line.buffer and line.room(moment):
                turn.append(line)
            if turn:
                turns.append(turn)

    def _send(self, line: Line, due: Due) -> None:
        self._buffered_bytes -= size(due)
        moment = now()
        request_id = new_id("req")
        line.start()
        if due.payload is None:
            answer = Answer(
                error=PAYLOAD_EXPIRED, error_detail="The event's record data is past its days."
            )
            self._take_answer(line, due, None, request_id, moment, answer)
            return
        try:
            outgoing = line.composer.compose(due.event_id, due.payload, moment)
        except ComposeError as error:
            answer = Answer(error=error.code, error_detail=error.detail)
            self._take_answer(line, due, None, request_id, moment, answer)
            return
        self._transport.submit(
            outgoing, line.timeout_seconds, (line, due, outgoing, request_id, moment)
        )

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
            is_probe = line.health.held_at is not None
            change = recording.settle(tried, line.schedule, is_probe=is_probe)
            batch.tried.append((line.lane, tried, change))
            line.take_health(
                health.after_attempt(line.health, tried.ok, tried.gone, moment, self._config)
            )
        for line in {line.webhook_id: line for line, _ in done}.values():
            then, after = before[line.webhook_id], line.health
            if after == then:
                continue
            batch.healths.append(
                health.Changed(
                    line.webhook_id, line.merchant_id, line.lane, then, after, line.updated_at,
                    moment,
                )
            )
            if after.disabled_reason or after.held_at != then.held_at:
                self._drop_buffer(line)
                line.may_have_more = after.disabled_reason is None
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
                    if line.ordered:
                        # What this one held back may be due now.
                        line.start_over()
            if written.lost:
                self._leave(written.lost)

    # -- lanes ------------------------------------------------------------------------------

    def _leave(self, lost: set[int]) -> None:
        _log.warning("Lanes %s have another owner now.", sorted(lost))
        for lane in lost:
            self._tokens.pop(lane, None)
        for webhook_id, line in list(self._lines.items()):
            if line.lane in lost:
                self._drop_buffer(line)
                del self._lines[webhook_id]
        self._done = [(line, tried) for line, tried in self._done if line.lane not in lost]

    def _adopt(self) -> bool:
        """Take one lane whose work nobody does, because its worker died or all are busy."""
        lane = next(filter(self._sharing.may_take, lanes.forgotten()), None)
        return lane is not None and self.take(lane)

    def _share(self) -> None:
        """Hand a lane over where that is due (portal.delivery.sharing)."""
        if self._sharing.is_time():
            waiting = {
                line.lane for line in self._lines.values()
                if line.buffer and line.health.held_at is None
            }
            self._sharing.choose(
                waiting, is_idle=not waiting and not self._transport.in_flight,
                somebody_idle=self._wakes.take_somebody_idle(),
                waited_seconds=self._transport.waited_seconds,
            )
        if self._sharing.leaving is None:
            return
        lines = [line for line in self._lines.values() if line.lane == self._sharing.leaving]
        for line in lines:
            self._drop_buffer(line)
            line.may_have_more = True
        lane = self._sharing.ready(under_way=any(line.known for line in lines))
        if lane is not None and lane in self._tokens:
            self._lines = {name: line for name, line in self._lines.items() if line.lane != lane}
            self._wakes.leave(lane)
            lanes.release({lane: self._tokens.pop(lane)})
            with contextlib.suppress(RedisError):
                queues.replace_drain(lane)
