"""3 DELIVERY: a worker drains lanes. What is due goes out, and what comes back is recorded.

One thread, hundreds of requests in flight. The rules:

1. The database is the truth: a row is due until its result is committed, and a drain that has lost
   its lane writes nothing more (the lease's token).
2. No delivery can end a drain: whatever an attempt raises is the failure of that attempt
   (attempts).
3. Each webhook has a line of its own, with a cap on its requests in flight and a small buffer of
   what is due. A receiver that hangs uses up its own cap and nothing else (line, lines, throttle).
4. Merchants take turns, the one with the fewest requests first, and nobody can have every slot.
   A merchant with a lot to send comes after the others, in shorter rounds (turns, shares).
5. This thread waits for nothing but the transport: templates are filled in cells (filling), results
   are written by a thread of their own (recorder), and names are looked up by others.
6. A receiver that is away gets one probe at a time (holding, probing).
7. When a drain ends, everything that came back is recorded and each lane is given back, even if a
   part of that fails (close).
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable

from flask import Flask, current_app

from portal import clock_watch, queues
from portal.clock import now
from portal.delivery import health, holding, lanes, recording
from portal.delivery.attempts import RECORD_COUNT, Attempts
from portal.delivery.handover import Handover
from portal.delivery.lines import Lines
from portal.delivery.paces import PACES, Paces
from portal.delivery.recorder import Batch, Recorder
from portal.delivery.requests import DeliveryRequest, LookRequest, Request, TokenRequest
from portal.delivery.shares import Shares
from portal.delivery.turns import Turns
from portal.delivery.wakes import Wakes
from portal.errors import Unavailable
from portal.fairness.company import Company
from portal.journal.seldom import Seldom
from portal.outbound.libcurl import CurlTransport, admitted
from portal.outbound.transport import Transport
from portal.redis_trouble import TROUBLE

_log = logging.getLogger(__name__)
_seldom = Seldom(_log, 10)


def drain(
    lane: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    keep_alive: Callable[[], None] = lambda: None,
    paces: Paces = PACES,
) -> int:
    """Send what is due in a lane, and in lanes that nobody else takes, until nothing has been due
    for a few seconds. Returns how many attempts were made.

    Once `should_stop` says so, what is in flight is finished and the rest is left to the next
    owner. `keep_alive` is called every now and then.
    """
    return Drain(lane, paces=paces).run(should_stop, keep_alive)


class Drain:
    """A drain that was called for a lane. It sends through the transport and writes through the
    recorder; both may be handed in, and so may its paces."""

    def __init__(
        self,
        lane: int,
        transport: Transport[Request] | None = None,
        recorder: Recorder | None = None,
        paces: Paces = PACES,
    ) -> None:
        self._lane = lane
        self._paces = paces
        self._config = current_app.config["PORTAL"]
        self._owner = f"{queues.this_process()}:{uuid.uuid4().hex[:8]}"
        self._tokens: dict[int, int] = {}
        self._lines = Lines(paces)
        self._transport: Transport[Request] = transport or CurlTransport(
            admitted(self._config), self._config.inspect_url
        )
        self._attempts = Attempts(
            self._transport, lambda line: self._lines.get(line.webhook_id) is line
        )
        self._unrecorded = False
        """Whether the recorder may be writing results; leases that it renews do not count."""
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._recorder = recorder or Recorder(app, self._config, paces=paces)
        self._holding = holding.Holding(
            self._lines, self._transport, self._recorder, self._tokens, self._config, paces
        )
        self._transport.watch(self._recorder.bell)
        self._wakes = Wakes(self._transport, paces)
        self._next: dict[str, float] = {}
        self._handover = Handover(lane, paces)
        self._shares = Shares(Company(self._config.data_dir))
        self._turns = Turns(self._lines, self._attempts, self._shares, paces)
        self._rested_seconds = 0.0
        """How long it has waited only because it keeps merchants back."""
        self._heavy: dict[int, float] = {}
        """The heavy merchants, and for how many seconds each is kept back (shares.Shares)."""
        self._rest_seconds = 0.0
        """How long nobody may take its lanes once they are given back."""
        self._idle_since = time.monotonic()
        self._look = self._is_whole = True
        """Whether to look for webhooks with something due, and whether for all of them."""
        self.attempts = 0

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        keep_alive: Callable[[], None] = lambda: None,
    ) -> int:
        """Lease the lane, send and close, as `drain` describes it. Returns how many attempts were
        made."""
        try:
            if self.lease(self._lane):
                self.loop(should_stop, keep_alive)
            return self.attempts
        finally:
            self.close()

    def lease(self, lane: int) -> bool:
        """Lease a lane and listen for its wake-up calls; False when another owns it."""
        token = lanes.lease(lane, self._owner)
        if token is None:
            return False
        self._tokens[lane] = token
        self._wakes.listen(lane)
        return True

    def loop(self, should_stop: Callable[[], bool], keep_alive: Callable[[], None]) -> None:
        """Take one step after another while there is work, and a lane to do it in."""
        while self._tokens and self.step(is_stopping=should_stop()):
            if self._every("keep_alive", self._paces.keep_alive_seconds):
                keep_alive()

    def step(self, *, is_stopping: bool = False) -> bool:
        """Read what is due, start what may start, wait a moment for responses, and hand results to
        the recorder. Returns whether there is more to do. A drain that `is_stopping` starts
        nothing.
        """
        self._heavy = self._shares.heavy({line.merchant_id for line in self._lines})
        # Even while it stops: a call that is not read would wake it again at once.
        called = self._wakes.called()
        if is_stopping:
            self._attempts.begin_no_more()
            self._turns.is_cut = self._lines.is_cut = False
        else:
            self._read(called=called)
            if not self._attempts.is_full:
                self._turns.take(self._heavy, self._handover.leaving)
            if self._every("probe", self._paces.probe_seconds):
                self._holding.look_after(self._handover.leaving)
        self._attempts.go_on()
        self._take_responses()
        self._collect_written()
        if self._ready_to_record():
            self._record()
        if not self._recorder.is_busy and self._every("heartbeat", self._paces.heartbeat_seconds):
            self._recorder.put(Batch(dict(self._tokens)))
        if self._attempts.in_flight or self._attempts.results or self._unrecorded:
            self._idle_since = time.monotonic()
        elif is_stopping:
            return False
        elif any(line.buffer and line.health.held_at is None for line in self._lines):
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since <= self._paces.linger_seconds

    def _read(self, *, called: bool) -> None:
        self._is_whole |= self._every("poll", self._paces.poll_seconds)
        self._look |= called or self._is_whole
        try:
            self._lines.read(
                self._tokens if self._look else None,
                self._handover.leaving,
                self._heavy,
                is_whole=self._is_whole,
            )
            self._look = self._is_whole = False
            if self._every("adopt", self._paces.adopt_seconds):
                self._look = self._is_whole = self._adopt()
            self._hand_over()
        except Unavailable as error:
            _seldom.warn(
                error.trouble,
                "What is due cannot be read now. "
                f"{error.trouble.sentence if error.trouble else error}",
            )
            time.sleep(self._paces.away_seconds)

    def close(self) -> None:
        """Record what came back and give the lanes back, even if a part of that fails. Raises
        nothing."""
        for step in (
            self._record,
            self._recorder.close,
            self._collect_written,
            self._attempts.close,
            self._wakes.close,
            self._transport.close,
            self._give_back,
        ):
            try:
                step()
            except Exception:  # noqa: BLE001 - the other parts must be done too
                self._rest_seconds = self._paces.defect_rest_seconds
                _log.exception("A part of a drain's end has failed.")

    def _give_back(self) -> None:
        mine = set(self._tokens)
        try:
            lanes.release(self._tokens, rest_seconds=self._rest_seconds)
            # Work that came in after the last look.
            for lane in mine.intersection(lanes.forgotten()):
                queues.replace_drain(lane)
        except (Unavailable, *TROUBLE) as error:
            _log.warning("Lanes %s were left to the sweep: %s", sorted(mine), error)

    def _every(self, what: str, seconds: float) -> bool:
        moment = time.monotonic()
        if moment < self._next.get(what, 0.0):
            return False
        self._next[what] = moment + seconds
        return True

    def _take_responses(self) -> None:
        """Wait a moment for responses, and give each to where its request came from."""
        waited = self._transport.waited_seconds
        paces = self._paces
        at_once = paces.short_slice_seconds if self._heavy else paces.sockets_seconds
        responses = self._transport.run(self._pause(), at_once)
        if any(self._heavy.values()):
            self._rested_seconds += self._transport.waited_seconds - waited
        for request, response in responses:
            match request:
                case DeliveryRequest():
                    self._attempts.on_response(request, response)
                case TokenRequest():
                    self._attempts.on_token(request, response)
                case LookRequest():
                    self._holding.on_look(request, response)

    def _pause(self) -> float:
        if self._turns.is_cut or self._lines.is_cut:
            return 0.0
        kept_back = (*self._heavy.values(), *self._lines.rests())
        wait = min(filter(None, (self._paces.adopt_seconds, *kept_back)))
        if self._attempts.results and not self._recorder.is_busy:
            wait = min(wait, max(0.0, self._paces.record_seconds - self._attempts.oldest_seconds))
            if not self._attempts.in_flight:
                return 0.0
        moment, clock = now(), time.monotonic()
        for line in self._lines:
            throttle = line.throttle
            if line.buffer and throttle.rate and line.merchant_id not in self._turns.kept_back:
                if throttle.next_start > clock:
                    wait = min(wait, throttle.next_start - clock)
                elif line.room(moment):
                    wait = 0.0
            elif line.health.held_at is not None:
                wait = min(wait, self._holding.seconds_to(line, moment))
        return wait

    def _ready_to_record(self) -> bool:
        if not self._attempts.results or self._recorder.is_busy:
            return False
        return (
            self._attempts.results >= RECORD_COUNT
            or self._attempts.oldest_seconds >= self._paces.record_seconds
            or not self._attempts.in_flight
        )

    def _record(self) -> None:
        """Hand the results to the recorder, with what they say about the health of receivers."""
        moment = now()
        if not (done := self._attempts.take_results()):
            return
        batch = Batch(dict(self._tokens), done)
        before = {one.line.webhook_id: one.line.health for one in done}
        for one in done:
            line, tried = one.line, one.tried
            line.take_health(
                health.WELL
                if tried.ok and line.health is health.WELL
                else health.after_attempt(
                    line.health,
                    tried.outcome,
                    tried.attempted_at,
                    moment,
                    self._config,
                    gone=tried.gone,
                    was_last=one.change.get("state") == "failed",
                    is_kept=recording.is_kept(tried, line.schedule),
                    asked_seconds=tried.retry_after() or 0,
                    is_clock_doubted=clock_watch.seems_doubted,
                )
            )
        for line in {one.line.webhook_id: one.line for one in done}.values():
            self._holding.note(batch, line, before[line.webhook_id], moment)
        self._unrecorded = True
        self._recorder.put(batch)

    def _collect_written(self) -> None:
        found = self._recorder.collect()
        self._unrecorded = self._unrecorded and self._recorder.is_busy
        for written in found:
            self.attempts += len(written.tried)
            self._attempts.written(written.batch.results)
            self._lines.leave_out(tried.due for tried in written.left_out)
            for tried in written.tried:
                if (line := self._lines.get(tried.due.webhook_id)) is not None:
                    line.known.discard(tried.due.id)
                    if line.ordered or line.health.held_at is not None:
                        # What it held back may be due now, or another one may be the next probe.
                        line.start_over()
            if written.lost:
                self._leave(written.lost)

    def _leave(self, lost: set[int]) -> None:
        for lane in lost:
            self._tokens.pop(lane, None)
            self._wakes.leave(lane)
        self._lines.drop(lost)
        self._attempts.forget(lost)

    def _adopt(self) -> bool:
        """Lease one lane that nobody works on, because its worker died or all are busy."""
        lane = next(filter(self._handover.may_take, lanes.forgotten()), None)
        return lane is not None and self.lease(lane)

    def _hand_over(self) -> None:
        """Choose a lane to hand over, or hand over the one that was chosen, when it is time."""
        if self._handover.is_time():
            waiting = {
                line.lane for line in self._lines if line.buffer and line.health.held_at is None
            }
            self._handover.choose(
                waiting,
                is_idle=not waiting and not self._attempts.in_flight,
                somebody_idle=self._wakes.take_somebody_idle(),
                waited_seconds=self._transport.waited_seconds - self._rested_seconds,
            )
        if self._handover.leaving is None:
            return
        lines = [line for line in self._lines if line.lane == self._handover.leaving]
        for line in lines:
            self._lines.drop_buffer(line)
            line.may_have_more = True
        lane = self._handover.ready(under_way=any(line.is_busy for line in lines))
        if lane is not None and lane in self._tokens:
            self._lines.drop([lane])
            self._wakes.leave(lane)
            lanes.release({lane: self._tokens.pop(lane)})
            with contextlib.suppress(*TROUBLE):
                queues.replace_drain(lane)
