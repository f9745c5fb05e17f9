"""The lines of a drain: what is read ahead for each webhook, and how much it may have in flight.

One line for each webhook, so that one that hangs holds its own cap and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa
from flask import current_app

from portal import vault
from portal.clock import now
from portal.delivery import access_tokens, due, health, lanes, probing
from portal.delivery.access_tokens import Client
from portal.delivery.compose import Certificate, Composer, Target
from portal.delivery.due import START, Due, Place
from portal.delivery.health import Health
from portal.delivery.probing import Probing
from portal.extensions import db, reading
from portal.models import Webhook

BUFFER = 200
"""Deliveries read ahead for one webhook."""
BUFFER_BYTES = 32 * 1024 * 1024
"""Payload read ahead for all webhooks; beyond it, a webhook gets one delivery at a time."""
LATELY_SECONDS = 600.0
"""How long one that has taken something counts as one that takes some of what it is sent."""
BOTH = (False, True)
"""Values of `is_retry`: first attempts before retries."""


class Line:
    """A webhook with a buffer of what is due to it, and how many requests it may have at once."""

    webhook_id: str
    merchant_id: int
    lane: int
    url: str
    method: str
    composer: Composer
    schedule: tuple[int, ...]
    timeout_seconds: int
    health: Health
    ordered: bool
    client: Client | None
    """Who asks for the access token that its requests need; None where they need none."""

    def __init__(self) -> None:
        self.updated_at = 0
        self.secrets_until: int | None = None
        self.buffer: deque[Due] = deque()
        self.known: set[str] = set()
        """IDs that are buffered, in flight or not yet recorded: not to be read again."""
        self._kinds: Sequence[bool] = BOTH
        self._places: dict[bool, Place] = {}
        """How far first attempts and retries were read."""
        self._reached: dict[bool, Place] = {}
        """How far they were looked through for what fits, before it had to start over."""
        self._caught_up_to: Place | None = START
        """How far what waits was read, while catching up; None at its end."""
        self.probing = Probing()
        self._answered_at = -LATELY_SECONDS
        """When its receiver last took or refused anything (this process's clock)."""
        self.in_flight = 0
        self.waits_for_token = False
        """Whether one of those in flight asks for an access token, which the others need too."""
        self._token: str | None = None
        """The access token with which `composer` makes requests."""
        self.may_have_more = True
        self.paused_until = 0.0
        self.cap = self.most = 0.0
        self._slowed_at = 0
        self.rate: int | None = None
        self.is_readable = True
        """Whether the portal's keys open its secrets; nothing is sent without them."""
        self.next_start = 0.0
        """From when on the rate allows another request (this process's clock)."""

    def take_settings(self, webhook: Webhook, moment: int) -> None:
        """Use the webhook's settings and secrets as they are at `moment` (Unix µs); without the
        secrets, where no key opens them, it waits for other settings."""
        config = current_app.config["PORTAL"]
        self.webhook_id = webhook.id
        self.merchant_id = webhook.merchant_id
        self.lane = webhook.lane
        self.updated_at = webhook.updated_at
        self.url = webhook.url
        self.method = webhook.method
        self.secrets_until = min(
            (old["until"] for old in webhook.old_secrets_at(moment)), default=None
        )
        self.schedule = tuple(webhook.retry_schedule or config.retry_schedule)
        self.timeout_seconds = webhook.timeout_seconds or config.timeout_seconds
        most = float(webhook.max_in_flight or config.max_in_flight)
        if most != self.most:
            self.cap = self.most = most
        self.rate = webhook.rate_per_second
        self.ordered = webhook.ordered
        self.health = Health.of(webhook)
        self.probing.end_round()
        try:
            self._open_secrets(webhook, moment)
            self.is_readable = True
        except vault.Unreadable:
            self.is_readable = False

    def _open_secrets(self, webhook: Webhook, moment: int) -> None:
        self.client = Client.of(webhook.auth)
        self._target = Target.of(webhook, moment)
        self._token = None
        if self.client is None:
            self.composer = Composer(self._target)

    def lacks_token(self, moment: int) -> bool:
        """Whether an access token must be asked for before a request can be made."""
        if self.client is None:
            return False
        token = access_tokens.known(self.client, moment)
        if token is not None and token != self._token:
            self._token = token
            self.composer = Composer(self._target.with_token(token))
        return token is None

    def room(self, moment: int) -> int:
        """How many more requests may be started now."""
        if not self.is_readable:
            return 0
        clock = time.monotonic()
        if self.waits_for_token or clock < self.paused_until or clock < self.next_start:
            return 0
        if self.health.held_at is not None:
            return int(self.may_probe(moment) and not self.wants_look)
        return max(0, int(self.cap) - self.in_flight)

    def may_probe(self, moment: int) -> bool:
        """Whether a held webhook may be asked now: one thing at a time, until what came of it is
        recorded."""
        return (
            self.is_readable
            and self.health.held_at is not None and self.health.disabled_reason is None
            and (self.health.next_probe_at or 0) <= moment
            and len(self.known) == len(self.buffer)
            and not self.probing.is_looking
        )

    @property
    def wants_look(self) -> bool:
        """Whether a round of probes must find out first that somebody listens."""
        return self.health.unreachable and not self.probing.has_heard

    @property
    def is_caught_up(self) -> bool:
        """Whether all has gone out that waited for its time when a hold ended."""
        return (
            self.health.catch_up_from is not None and self._caught_up_to is None and not self.known
        )

    @property
    def is_busy(self) -> bool:
        """Whether something of it is under way, or not recorded yet."""
        return bool(self.known) or self.probing.is_looking

    def look(self) -> tuple[str, Certificate | None]:
        """Where to look whether somebody listens: the URL, and what to show there in TLS."""
        self.probing.is_looking = True
        return self.url, self._target.certificate

    def start(self) -> None:
        """Count a request that starts now."""
        self.in_flight += 1
        if self.rate:
            # A moment that was not used is not made up for: never more than `rate` in a second.
            self.next_start = time.monotonic() + 1 / self.rate

    def end(self, started_at: int, ok: bool, in_trouble: bool, pause_seconds: float) -> None:
        """Count a request that ended: where the receiver is in trouble the cap is halved, once for
        all requests that were under way together, and it comes back by successes.

        `started_at` is in Unix µs.
        """
        self.in_flight -= 1
        if in_trouble:
            if started_at > self._slowed_at:
                self._slowed_at = now()
                self.cap = max(1.0, self.cap / 2)
            self.paused_until = max(self.paused_until, time.monotonic() + pause_seconds)
        elif ok:
            self.cap = min(self.most, self.cap + 1 / self.cap)

    def take_health(self, after: Health) -> None:
        """Go on with another after. What a receiver missed while it was held comes slowly at
        first, so that it is not knocked over again."""
        if not after.away:
            self._answered_at = time.monotonic()
        if self.health.held_at is not None and after.held_at is None:
            self.cap = 1.0
        if after.held_at != self.health.held_at:
            self.probing = Probing()
        elif after.next_probe_at != self.health.next_probe_at:
            self.probing.end_round()
        if after.catch_up_from != self.health.catch_up_from:
            self._caught_up_to = START
        self.health = after

    def start_over(self, kinds: Sequence[bool] = BOTH) -> None:
        """Read from the start again: what was committed late stands before what was read. `kinds`
        says whether there are first attempts (False) and retries (True) to read."""
        self._kinds = kinds
        self.may_have_more = True
        self._places.clear()

    def drop_buffer(self) -> int:
        """Forget what was read ahead; it stays due in the database. Its size in characters."""
        dropped = 0
        for one in self.buffer:
            self.known.discard(one.id)
            dropped += size(one)
        self.buffer.clear()
        self._places.clear()
        self._caught_up_to = START
        return dropped

    def fill(self, want: int, moment: int) -> int:
        """Read up to `want` deliveries that are due at `moment` (Unix µs) into the buffer, first
        attempts before retries; their size in characters. For a running read transaction.

        A held webhook has one read, to probe it with. One that catches up has those read last
        that wait for their time though what they wait for is over.
        """
        self.may_have_more = False
        if self.health.held_at is not None:
            found = self._probe(moment)
        else:
            found = self._due(want, moment)
            if len(found) < want and self.health.catch_up_from is not None:
                found += self._waiting(want - len(found), moment, self.health.catch_up_from)
        self.buffer.extend(found)
        self.known.update(one.id for one in found)
        return sum(map(size, found))

    def _probe(self, moment: int) -> list[Due]:
        self.probing.takes_some = time.monotonic() - self._answered_at < LATELY_SECONDS
        found = probing.find(
            self.probing, self.webhook_id, self.health, self.schedule, moment,
            ordered=self.ordered,
        )
        self.may_have_more = found is None and not self.probing.is_over
        return [] if found is None else [found]

    def _due(self, want: int, moment: int) -> list[Due]:
        found: list[Due] = []
        for is_retry in self._kinds:
            # From the start, rows that are known come again: they are due until recorded.
            place = self._places.get(is_retry, START)
            limit = want - len(found) + (0 if place[0] else len(self.known))
            rows, reached = due.read(
                self.webhook_id, is_retry=is_retry, moment=moment, after=place, count=limit,
                ordered=self.ordered,
            )
            for one, due_at in rows:
                if len(found) == want:
                    break
                self._places[is_retry] = (due_at, one.id)
                if one.id not in self.known:
                    found.append(one)
            if len(found) == want:
                self.may_have_more = True
                break
            if reached is None:
                self._reached.pop(is_retry, None)
                continue
            # What was looked through before it had to start over need not be so again.
            place = max(reached, self._reached.get(is_retry, reached))
            self._places[is_retry] = self._reached[is_retry] = place
            self.may_have_more = True
            break
        return found

    def _waiting(self, want: int, moment: int, tried_before: int) -> list[Due]:
        if self._caught_up_to is None:
            return []
        rows, self._caught_up_to = due.waiting(
            self.webhook_id, moment=moment, tried_before=tried_before, after=self._caught_up_to,
            count=want, ordered=self.ordered,
        )
        self.may_have_more |= self._caught_up_to is not None
        return [one for one, _ in rows if one.id not in self.known]


class Lines:
    """All lines of a drain, which read ahead within common bounds."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._buffered_bytes = 0

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def get(self, webhook_id: str) -> Line | None:
        """A webhook's line, if it has one now."""
        return self._lines.get(webhook_id)

    def take(self, line: Line) -> Due:
        """The next delivery that was read ahead for a webhook."""
        first = line.buffer.popleft()
        self._buffered_bytes -= size(first)
        return first

    def drop_buffer(self, line: Line) -> None:
        """Forget what was read ahead for a webhook; it stays due in the database."""
        self._buffered_bytes -= line.drop_buffer()

    def drop(self, lanes_left: Iterable[int]) -> None:
        """Forget the webhooks of lanes that this drain has no more."""
        left = set(lanes_left)
        for line in [line for line in self if line.lane in left]:
            self.drop_buffer(line)
            del self._lines[line.webhook_id]

    def read(self, look_in: Iterable[int] | None, leaving: int | None) -> None:
        """Read ahead what is due, but of the lane that is being left; where there are lanes to
        `look_in`, find their webhooks that have something due first. One transaction, since each
        costs PostgreSQL three round trips."""
        if look_in is None and not self._to_fill(leaving):
            return
        with reading():
            if look_in is not None:
                self._look(sorted(look_in))
            for line in self._to_fill(leaving):
                self._buffered_bytes += line.fill(
                    BUFFER if self._buffered_bytes < BUFFER_BYTES else 1, now()
                )
        self._hold_unreadable()

    def _look(self, look_in: list[int]) -> None:
        """Find the webhooks that have something due, and take over changes of their settings."""
        moment = now()
        kinds_due = [lanes.has_due(moment, is_retry=is_retry) for is_retry in BOTH]
        rows = db.session.execute(
            sa.select(Webhook.id, Webhook.updated_at, *kinds_due).where(
                Webhook.lane.in_(look_in), Webhook.enabled, Webhook.deleted_at.is_(None),
                sa.or_(
                    *kinds_due, Webhook.catch_up_from.is_not(None), lanes.may_probe(moment)
                ),
            )
        ).all()
        wanted = {row.id for row in rows}
        for webhook_id, line in list(self._lines.items()):
            if webhook_id not in wanted:
                # Disabled, deleted, or nothing due: what was read ahead is not sent.
                self.drop_buffer(line)
                if not line.is_busy:
                    del self._lines[webhook_id]
        for webhook_id, updated_at, *kinds in rows:
            line = self._lines.get(webhook_id) or Line()
            expired = line.secrets_until is not None and line.secrets_until <= moment
            if line.updated_at != updated_at or expired:
                webhook = db.session.get_one(Webhook, webhook_id)
                self.drop_buffer(line)
                line.take_settings(webhook, moment)
            # Not before it has settings: the database may have failed to give them.
            self._lines[webhook_id] = line
            line.start_over([kind for kind, is_due in zip(BOTH, kinds, strict=True) if is_due])

    def _hold_unreadable(self) -> None:
        moment = now()
        for line in self:
            rests = line.health.held_at is not None and (line.health.next_probe_at or 0) > moment
            if not line.is_readable and not rests:
                line.take_health(health.hold_unreadable(line.webhook_id, moment))

    def _to_fill(self, leaving: int | None) -> list[Line]:
        moment = now()
        return [
            line for line in self
            if line.may_have_more and not line.buffer and line.room(moment)
            and line.lane != leaving
        ]


def size(one: Due) -> int:
    """Characters of the payload that a delivery carries in memory."""
    if one.payload is None:
        return 0
    return len(one.payload.head) + len(one.payload.data or "") + len(one.payload.previous or "")
