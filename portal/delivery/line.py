"""The line of one webhook: its settings, what is read ahead for it, and what it may have in
flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from flask import current_app

from portal.clock import now
from portal.composing.compose import Composer, Target
from portal.db.session import db
from portal.delivery import probing
from portal.delivery.due import DueDelivery
from portal.delivery.health import Health
from portal.delivery.probing import Probing
from portal.delivery.reading import BOTH, Reading
from portal.delivery.silence import Silence
from portal.delivery.throttle import Throttle
from portal.models import Webhook
from portal.outbound import access_tokens, defects
from portal.outbound.access_tokens import Client
from portal.outbound.outcome import Outcome
from portal.outbound.transport import Look

FEW = 100
"""As many deliveries are passed over as fast as any."""
LATELY_SECONDS = 600.0
"""How long a receiver that has taken something counts as one that takes some of what it is sent."""


class Line:
    """A webhook, with a buffer of deliveries that are due and a limit on its requests in flight."""

    webhook_id: str
    merchant_id: int
    lane: int
    url: str
    method: str
    composer: Composer
    schedule: tuple[int, ...]
    timeout_seconds: int
    ordered: bool
    client: Client | None
    """Whom to ask for the access token that its requests need, and how; None where they need
    none."""

    def __init__(self) -> None:
        self.updated_at = 0
        self.secrets_until: int | None = None
        self.buffer: deque[DueDelivery] = deque()
        self.known: set[str] = set()
        """IDs of deliveries that are buffered, in flight or not yet recorded: not to be read
        again."""
        self._left_out = 0
        """How many of these the database does not take in any form."""
        self.probing = Probing()
        self.silence = Silence()
        self._reading = Reading(self.known, self.silence)
        self._answered_at = -LATELY_SECONDS
        """When its receiver last took or refused anything (this process's clock, seconds)."""
        self.throttle = Throttle()
        self.slots = 0
        """How many slots of its drain its requests in flight take (DueDelivery.slots)."""
        self.waits_for_token = False
        """Whether a request for an access token is in flight, which all others need."""
        self._token: str | None = None
        """The access token with which `composer` makes requests."""
        self.may_have_more = True
        self.health = Health()
        self.is_usable = self.is_readable = True
        """Whether its settings can be used at all, and whether the portal's keys open its secrets;
        if not, nothing is sent."""

    def take_settings(self, row: sa.Row[*tuple[Any, ...]], moment: int) -> None:
        """Use the settings and secrets of the webhook of a `row` as they are at `moment` (Unix µs).
        If no key opens the secrets, or the settings cannot be used, nothing is sent until they
        change. For a running read transaction."""
        self.webhook_id, self.updated_at = row.id, row.updated_at
        self.merchant_id, self.lane = row.merchant_id, row.lane
        self.is_usable = self.is_readable = True
        try:
            self._use(db.session.get_one(Webhook, row.id), moment)
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - no drain ends because of a webhook
            defects.noted(error, "A webhook's settings cannot be used; it is held.", row.id)
            self.is_usable = self.is_readable = False

    def _use(self, webhook: Webhook, moment: int) -> None:
        config = current_app.config["PORTAL"]
        self.url = webhook.url
        self.method = webhook.method
        self.secrets_until = min(
            (old["until"] for old in webhook.old_secrets_at(moment)), default=None
        )
        self.schedule = tuple(map(int, webhook.retry_schedule or config.retry_schedule))
        self.timeout_seconds = webhook.timeout_seconds or config.timeout_seconds
        self.throttle.set_limits(
            webhook.max_in_flight or config.max_in_flight, webhook.rate_per_second
        )
        self.ordered = webhook.ordered
        self.health = Health.of(webhook)
        self.probing.end_round()
        if webhook.unreadable(moment):
            self.is_readable = False
            return
        self.client = Client.of(webhook.auth)
        self._target = Target.of(webhook, webhook.signing_secrets(moment))
        self._token = None
        if self.client is None:
            self.composer = Composer(self._target)

    def lacks_token(self, moment: int) -> bool:
        """Whether an access token must be fetched before a request can be made."""
        if self.client is None:
            return False
        token = access_tokens.known(self.client, moment)
        if token is not None and token != self._token:
            self._token = token
            self.composer = Composer(self._target.with_token(token))
        return token is None

    def room(self, moment: int) -> int:
        """How many more requests may at least be started now."""
        if not self.is_readable or self.waits_for_token:
            return 0
        clock = time.monotonic()
        if self.health.held_at is not None:
            is_open = self.throttle.is_open(clock)
            return int(is_open and self.may_probe(moment) and not self.wants_look)
        return self.throttle.room(clock, self.silence.hanging)

    def may_probe(self, moment: int) -> bool:
        """Whether a held webhook may be probed now: by one request at a time, until its result is
        recorded or it has been without a response for long."""
        hanging = self.silence.hanging(time.monotonic())
        return (
            self.is_readable
            and self.health.held_at is not None
            and self.health.disabled_reason is None
            and not self.health.rests(moment)
            and len(self.known) - self._left_out == len(self.buffer) + hanging
            and hanging < self.throttle.most
            and not self.probing.is_looking
        )

    @property
    def is_held(self) -> bool:
        """Whether nothing is sent but probes."""
        return self.health.held_at is not None

    @property
    def searches(self) -> bool:
        """Whether a read may have to look through many deliveries for one that may be sent now."""
        return (
            self.is_held
            or self.ordered
            or self.health.catch_up_from is not None
            or self._reading.has_aside
            or len(self.known) > FEW
        )

    @property
    def wants_look(self) -> bool:
        """Whether a round of probes must first find out whether anybody listens."""
        return self.health.unreachable and not self.probing.has_heard

    @property
    def is_caught_up(self) -> bool:
        """Whether everything has gone out that was waiting for its time when a hold ended."""
        return (
            self.health.catch_up_from is not None
            and self._reading.is_caught_up
            and len(self.known) == self._left_out
            and not self.may_have_more
        )

    @property
    def is_busy(self) -> bool:
        """Whether anything of it is under way or not recorded yet."""
        return len(self.known) > self._left_out or self.probing.is_looking

    def leave_out(self, one: DueDelivery) -> None:
        """Leave a delivery whose result cannot be recorded to the lane's next owner: it is not read
        again here, and nothing waits for its result."""
        self._left_out += one.id in self.known

    def look(self) -> Look:
        """Begin to find out whether anybody listens; what to submit for that."""
        self.probing.is_looking = True
        return Look(self.url, self._target.certificate)

    def start(self, one: DueDelivery) -> None:
        """Count a request that starts now."""
        clock = time.monotonic()
        self.throttle.start(clock)
        self.silence.start(one.type, clock)
        self.slots += one.slots

    def end(
        self,
        one: DueDelivery,
        started_at: int,
        outcome: Outcome,
        in_trouble: bool,
        pause_seconds: float,
    ) -> None:
        """Count a request that began at `started_at` (Unix µs) and has ended; whether its receiver
        is in trouble, and for how long it asks to be left alone."""
        clock = time.monotonic()
        self.throttle.end(was_delivered=outcome is Outcome.DELIVERED and not in_trouble)
        self.silence.end(one.type, clock, was_silent=outcome is Outcome.SILENT)
        self.slots -= one.slots
        if in_trouble:
            self.throttle.slow_down(started_at, now())
            self.throttle.pause(clock + pause_seconds)

    def take_health(self, after: Health) -> None:
        """Go on with another health. What a receiver missed while it was held comes slowly at
        first, so that it is not knocked over again."""
        if not after.away:
            self._answered_at = time.monotonic()
        if after is self.health:
            return
        if self.health.held_at is not None and after.held_at is None:
            self.throttle.start_slowly()
        if after.held_at != self.health.held_at:
            self.probing = Probing()
        elif after.next_probe_at != self.health.next_probe_at:
            self.probing.end_round()
        if after.catch_up_from != self.health.catch_up_from:
            self._reading.catch_up()
        self.health = after

    def start_over(self, kinds: Sequence[bool] = BOTH) -> None:
        """Read from the start again, since rows that are committed late stand before what was read.
        `kinds` says whether there are first attempts (False) and retries (True) to read."""
        self.may_have_more = True
        self._reading.start_over(kinds)

    def takes_over_silence(self) -> bool:
        """Whether other types are aside now than when it read ahead. If so it reads again, from the
        start, without those."""
        if self.health.held_at is not None or not self._reading.takes_over_silence():
            return False
        self.may_have_more = True
        return True

    def drop_buffer(self) -> int:
        """Forget what was read ahead; it stays due in the database. Returns its size in
        characters."""
        dropped = 0
        for one in self.buffer:
            self.known.discard(one.id)
            dropped += one.size
        self.buffer.clear()
        self._reading.go_back()
        return dropped

    def fill(self, want: int, moment: int) -> int:
        """Read up to `want` deliveries that are due at `moment` (Unix µs) into the buffer, first
        attempts before retries; for a held webhook one, to probe it with. Returns their size in
        characters. For a running read transaction."""
        if self.health.held_at is not None:
            found = self._probe(moment)
        else:
            found = self._reading.read(
                self.webhook_id,
                want,
                moment,
                ordered=self.ordered,
                catch_up_from=self.health.catch_up_from,
            )
            self.may_have_more = self._reading.has_more
        self.buffer.extend(found)
        self.known.update([one.id for one in found])
        return sum([one.size for one in found])

    def _probe(self, moment: int) -> list[DueDelivery]:
        self.probing.takes_some = time.monotonic() - self._answered_at < LATELY_SECONDS
        self.probing.aside = self.silence.aside(time.monotonic())
        self.probing.under_way = self.silence.under_way
        found = probing.find(
            self.probing,
            self.webhook_id,
            self.health,
            self.schedule,
            moment,
            ordered=self.ordered,
            known=self.known,
        )
        self.may_have_more = found is None and not self.probing.is_over
        return [] if found is None else [found]
