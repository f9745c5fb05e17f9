"""What a drain does for held webhooks besides probing, until everything that was held is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from portal import clock_watch
from portal.clock import SECOND, now
from portal.config import Config
from portal.delivery import health
from portal.delivery.health import Changed, Health
from portal.delivery.line import Line
from portal.delivery.lines import Lines
from portal.delivery.paces import Paces
from portal.delivery.recorder import Batch, Recorder
from portal.delivery.requests import LookRequest, Request
from portal.outbound.outcome import INTERNAL_ERROR
from portal.outbound.response import Response
from portal.outbound.transport import Transport

LOOK_SECONDS = 10.0
"""How long a target may take to take a connection."""


class Holding:
    """The held webhooks of a drain: checks whether anybody listens, and ends of rounds."""

    def __init__(
        self,
        lines: Lines,
        transport: Transport[Request],
        recorder: Recorder,
        tokens: Mapping[int, int],
        config: Config,
        paces: Paces,
    ):
        self._lines = lines
        self._transport = transport
        self._recorder = recorder
        self._tokens = tokens
        self._config = config
        self._paces = paces

    def look_after(self, leaving: int | None) -> None:
        """Start the looks that are due, end rounds that have nothing left to try, and record which
        webhooks have caught up; but not in the lane that is being handed over."""
        moment = now()
        for line in self._lines:
            if line.lane == leaving:
                continue
            if line.is_caught_up:
                self._change(line, replace(line.health, catch_up_from=None), moment)
            elif not line.may_probe(moment):
                continue
            elif line.wants_look:
                self._transport.submit(
                    line.look(), LOOK_SECONDS, LookRequest(line), line.merchant_id
                )
            elif line.probing.is_over:
                self._end_round(line, moment)

    def seconds_to(self, line: Line, moment: int) -> float:
        """How many seconds a drain may wait at `moment` (Unix µs) before it goes on with a held
        webhook: its pause may be much shorter than the time between two looks for what is due."""
        if line.is_busy or not line.is_readable:
            return inf
        if line.probing.is_over:
            return self._paces.probe_seconds / 2
        if not line.may_have_more:
            return inf
        rests = line.health.rests(moment)
        return max(0.01, ((line.health.next_probe_at or 0) - moment) / SECOND if rests else 0.0)

    def on_look(self, request: LookRequest, response: Response) -> None:
        """Go on with the round if somebody listens; otherwise end it."""
        line = request.line
        line.probing.is_looking = False
        if self._lines.get(line.webhook_id) is not line or line.health.held_at is None:
            return
        if response.error in (None, INTERNAL_ERROR):
            # Where the portal itself failed to look, a probe finds out.
            line.probing.has_heard = True
            line.start_over()
        else:
            self._end_round(line, now())

    def note(self, batch: Batch, line: Line, before: Health, moment: int) -> None:
        """Have the health of a line recorded if it differs from what it was `before`."""
        after = line.health
        if after == before:
            return
        batch.healths.append(
            Changed(
                line.webhook_id, line.merchant_id, line.lane, before, after, line.updated_at, moment
            )
        )
        if after.disabled_reason or after.held_at != before.held_at:
            self._lines.drop_buffer(line)
            line.may_have_more = after.disabled_reason is None

    def _end_round(self, line: Line, moment: int) -> None:
        pause = health.LONGEST_PAUSE if line.wants_look else line.probing.longest_pause
        after = health.after_round(
            line.health, moment, self._config, pause, clock_watch.seems_doubted
        )
        self._change(line, after, moment)
        # The pause may end before the next look for what is due.
        line.start_over()

    def _change(self, line: Line, after: Health, moment: int) -> None:
        """Record a change of health that no attempt has caused."""
        batch = Batch(dict(self._tokens))
        before = line.health
        line.take_health(after)
        self.note(batch, line, before, moment)
        self._recorder.put(batch)
