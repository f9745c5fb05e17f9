"""The lines of a drain: what is read ahead for each webhook, and how much it may have in flight.

One line for each webhook, so that one that hangs holds its own cap and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import sqlalchemy as sa
from flask import current_app

from portal import vault
from portal.clock import now
from portal.delivery import access_tokens, health, lanes
from portal.delivery.access_tokens import Client
from portal.delivery.compose import Composer, Payload, Target
from portal.delivery.health import Health
from portal.delivery.recording import Due
from portal.extensions import db, reading, table
from portal.models import Delivery, EventPayload, Webhook
from portal.models.delivery import PENDING_LITERAL

BUFFER = 200
"""Deliveries read ahead for one webhook."""
BUFFER_BYTES = 32 * 1024 * 1024
"""Payload read ahead for all webhooks; beyond it, a webhook gets one delivery at a time."""
BOTH = (False, True)
"""Values of `is_retry`: first attempts before retries."""
_Fields = tuple[str, int, str, str, int, int, str]
_delivery = table(Delivery)
_payload = table(EventPayload)


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
        self._places: dict[bool, tuple[int, str]] = {}
        """How far first attempts and retries were read."""
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
        overlap_end = webhook.old_secret_until or 0
        self.secrets_until = overlap_end if overlap_end > moment else None
        self.schedule = tuple(webhook.retry_schedule or config.retry_schedule)
        self.timeout_seconds = webhook.timeout_seconds or config.timeout_seconds
        most = float(webhook.max_in_flight or config.max_in_flight)
        if most != self.most:
            self.cap = self.most = most
        self.rate = webhook.rate_per_second
        self.ordered = webhook.ordered
        self.health = Health(
            webhook.failures, webhook.failing_since, webhook.held_at, webhook.next_probe_at
        )
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
            probe_due = (self.health.next_probe_at or 0) <= moment
            return 1 if probe_due and not self.in_flight else 0
        return max(0, int(self.cap) - self.in_flight)

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

    def take_health(self, health: Health) -> None:
        """Go on with another health. What a receiver missed while it was held comes slowly at
        first, so that it is not knocked over again."""
        if self.health.held_at is not None and health.held_at is None:
            self.cap = 1.0
        self.health = health

    def start_over(self, kinds: Sequence[bool] = BOTH) -> None:
        """Read from the start again: what was committed late stands before what was read. `kinds`
        says whether there are first attempts (False) and retries (True) to read."""
        self._kinds = kinds
        self.may_have_more = True
        self._places.clear()

    def drop_buffer(self) -> int:
        """Forget what was read ahead; it stays due in the database. Its size in characters."""
        dropped = 0
        for due in self.buffer:
            self.known.discard(due.id)
            dropped += size(due)
        self.buffer.clear()
        self._places.clear()
        return dropped

    def fill(self, want: int, moment: int) -> int:
        """Read up to `want` deliveries that are due at `moment` (Unix µs) into the buffer, first
        attempts before retries; their size in characters. For a running read transaction.

        A held webhook has one read, to probe it with.
        """
        if self.health.held_at is not None:
            want = 1
        found: list[Due] = []
        self.may_have_more = False
        for is_retry in self._kinds:
            # From the start, rows that are known come again: they are due until recorded.
            place = self._places.get(is_retry, (0, ""))
            limit = want - len(found) + (0 if place[0] else len(self.known))
            rows = db.session.execute(_DUE_IN_ORDER if self.ordered else _DUE, {
                "webhook_id": self.webhook_id, "is_retry": is_retry, "moment": moment,
                "count": limit, "after": place[0], "after_id": place[1],
            }).all()
            for row in rows:
                if len(found) == want:
                    break
                *fields, head, data, previous, due_at = row
                self._places[is_retry] = (due_at, row[0])
                if row[0] not in self.known:
                    payload = None if head is None else Payload(head, data, previous)
                    found.append(Due(*cast(_Fields, fields), payload))
            if len(found) == want or len(rows) == limit:
                self.may_have_more = True
                break
        self.buffer.extend(found)
        self.known.update(due.id for due in found)
        return sum(map(size, found))


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
        due = line.buffer.popleft()
        self._buffered_bytes -= size(due)
        return due

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
        due = [lanes.has_due(moment, is_retry=is_retry) for is_retry in BOTH]
        rows = db.session.execute(
            sa.select(Webhook.id, Webhook.updated_at, *due).where(
                Webhook.lane.in_(look_in), Webhook.enabled, Webhook.deleted_at.is_(None),
                sa.or_(*due),
            )
        ).all()
        wanted = {row.id for row in rows}
        for webhook_id, line in list(self._lines.items()):
            if webhook_id not in wanted:
                # Disabled, deleted, or nothing due: what was read ahead is not sent.
                self.drop_buffer(line)
                if not line.known:
                    del self._lines[webhook_id]
        for webhook_id, updated_at, *kinds in rows:
            line = self._lines.setdefault(webhook_id, Line())
            expired = line.secrets_until is not None and line.secrets_until <= moment
            if line.updated_at != updated_at or expired:
                self.drop_buffer(line)
                line.take_settings(db.session.get_one(Webhook, webhook_id), moment)
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


def size(due: Due) -> int:
    """Characters of the payload that a delivery carries in memory."""
    if due.payload is None:
        return 0
    return len(due.payload.head) + len(due.payload.data or "") + len(due.payload.previous or "")


_DUE = (
    sa.select(
        # In the order of Due's fields.
        _delivery.c.id, _delivery.c.merchant_id, _delivery.c.event_id, _delivery.c.webhook_id,
        _delivery.c.attempts, _delivery.c.step, _delivery.c.trigger,
        _payload.c.head, _payload.c.data, _payload.c.previous, _delivery.c.next_attempt_at,
    )
    .select_from(
        _delivery.outerjoin(
            _payload,
            sa.and_(
                _payload.c.merchant_id == _delivery.c.merchant_id,
                _payload.c.event_id == _delivery.c.event_id,
            ),
        )
    )
    .where(
        _delivery.c.webhook_id == sa.bindparam("webhook_id"),
        _delivery.c.state == PENDING_LITERAL,
        _delivery.c.is_retry == sa.bindparam("is_retry"),
        _delivery.c.next_attempt_at <= sa.bindparam("moment"),
        _delivery.c.next_attempt_at >= sa.bindparam("after"),
        sa.tuple_(_delivery.c.next_attempt_at, _delivery.c.id)
        > sa.tuple_(sa.bindparam("after"), sa.bindparam("after_id")),
    )
    .order_by(_delivery.c.next_attempt_at, _delivery.c.id)
    .limit(sa.bindparam("count"))
)

_earlier = _delivery.alias("earlier")
_DUE_IN_ORDER = _DUE.where(
    sa.or_(
        _delivery.c.object_key.is_(None),
        ~sa.exists().where(
            _earlier.c.webhook_id == _delivery.c.webhook_id,
            _earlier.c.object_key == _delivery.c.object_key,
            _earlier.c.state == PENDING_LITERAL,
            sa.tuple_(_earlier.c.created_at, _earlier.c.id)
            < sa.tuple_(_delivery.c.created_at, _delivery.c.id),
        ),
    )
)
"""Of each record only the first that is owed: the next is due when that one is finished."""
