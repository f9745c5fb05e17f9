"""One event, or one attempt, with everything that its page and the API show of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from portal.clock import DAY, now
from portal.composing.compose import RECORD, THIN, Payload, event_body
from portal.db.session import db
from portal.delivery import actions
from portal.errors import NotFound
from portal.events import matching
from portal.models import Attempt, AttemptPayload, Delivery, Event, EventPayload, Merchant, Webhook
from portal.models.delivery import FAILED
from portal.people import periods

RELATED = 20
"""Related events on an event's page, of each kind."""
SHOWN_ATTEMPTS = 10
"""The newest attempts of each delivery on an event's page."""
TEST_OF_ANOTHER = "test_of_another"
CREATED_AFTER = "created_after"
WAS_INACTIVE = "was_inactive"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Destination:
    """A webhook, and what became of an event there: a delivery with its newest attempts, or the
    reason why there is none.

    The reasons are those of portal.events.matching, and `created_after` (the webhook is younger
    than the event), `test_of_another` (the event was a test of another webhook), `was_inactive`
    (the merchant was, and is active now), `unknown` (with today's settings it would have been
    sent). `is_judged_by_now` says that the webhook was changed after the event, so that the reason
    is found by today's settings. `not_again` is a sentence that says why the delivery cannot be
    sent again; None where it can.
    """

    webhook: Webhook | None
    delivery: Delivery | None
    state: str | None
    attempts: Sequence[Attempt]
    reason: str | None = None
    is_judged_by_now: bool = False
    not_again: str | None = None


@dataclass(frozen=True)
class EventStory:
    """All that an event's page shows. `payload` is None once the record data has been deleted."""

    event: Event
    payload: EventPayload | None
    payload_expires_at: int
    destinations: list[Destination]
    same_record: Sequence[Event]
    same_action: Sequence[Event]

    @property
    def has_failed_to_send_again(self) -> bool:
        """Whether a delivery failed that can be sent again."""
        return any(one.state == FAILED and one.not_again is None for one in self.destinations)

    @property
    def is_moving(self) -> bool:
        """Whether something here may still change by itself."""
        return any(
            one.delivery is not None and one.delivery.state == "pending"
            for one in self.destinations
        )


@dataclass(frozen=True)
class AttemptDetail:
    """An attempt with its payload log, as exact bytes.

    Headers and bodies are None once they have been deleted for their age (`is_expired`), and where
    there never were any (`was_not_kept`). `request_body` is also None for a request without a body,
    and where the event's record data was deleted first (`request_body_is_lost`). `not_again` is as
    in Destination.
    """

    attempt: Attempt
    event: Event | None
    webhook: Webhook | None
    payload_expires_at: int
    is_expired: bool
    was_not_kept: bool = False
    request_headers: list[tuple[str, str]] | None = None
    request_body: bytes | None = None
    request_body_is_lost: bool = False
    response_headers: list[tuple[str, str]] | None = None
    response_body: bytes | None = None
    is_truncated: bool = False
    delivery: Delivery | None = None
    not_again: str | None = None


def get_event(merchant_id: int, event_id: str) -> Event:
    """A merchant's event. Raises NotFound."""
    event = db.session.get(Event, (merchant_id, event_id))
    if event is None:
        raise NotFound("There is no such event.")
    return event


def payload_of(event: Event) -> EventPayload | None:
    """An event's record data, while it is kept."""
    return db.session.get(EventPayload, (event.merchant_id, event.id))


def event_story(merchant: Merchant, event_id: str) -> EventStory:
    """A merchant's event with its record, related events, and what became of it at each webhook.
    Raises NotFound."""
    event = get_event(merchant.id, event_id)
    payload = payload_of(event)
    return EventStory(
        event=event,
        payload=payload,
        payload_expires_at=event.received_at + periods.payload_days(merchant) * DAY,
        destinations=_destinations(merchant, event, payload is not None),
        same_record=same_record(event),
        same_action=same_action(event),
    )


def same_record(event: Event, limit: int = RELATED) -> Sequence[Event]:
    """Other events of an event's record, newest first."""
    if event.object_id is None:
        return []
    return _related(
        event, limit, Event.object_id == event.object_id, Event.object_type == event.object_type
    )


def same_action(event: Event, limit: int = RELATED) -> Sequence[Event]:
    """Other events of an event's action (correlation ID), newest first."""
    if event.correlation_id is None:
        return []
    return _related(
        event,
        limit,
        Event.correlation_id == event.correlation_id,
        Event.correlation_id.is_not(None),
    )


def _related(event: Event, limit: int, *which: sa.ColumnElement[bool]) -> Sequence[Event]:
    return db.session.scalars(
        sa.select(Event)
        .where(Event.merchant_id == event.merchant_id, Event.id != event.id, *which)
        .order_by(Event.received_at.desc(), Event.id.desc())
        .limit(limit)
    ).all()


def event_deliveries(event: Event) -> list[tuple[Delivery, Webhook | None]]:
    """An event's deliveries, each with its webhook, also where that has been deleted."""
    found = db.session.execute(
        sa.select(Delivery, Webhook)
        .outerjoin(Webhook, Webhook.id == Delivery.webhook_id)
        .where(Delivery.merchant_id == event.merchant_id, Delivery.event_id == event.id)
        .order_by(Delivery.id)
    )
    return [(delivery, webhook) for delivery, webhook in found]


def _destinations(merchant: Merchant, event: Event, has_record: bool) -> list[Destination]:
    tried = attempts_by_delivery(event.merchant_id, [event.id], SHOWN_ATTEMPTS)
    owed = [
        Destination(
            webhook,
            delivery,
            delivery.shown_state(webhook),
            tried.get(delivery.id, []),
            not_again=actions.why_not_again(webhook, has_record),
        )
        for delivery, webhook in event_deliveries(event)
    ]
    reached = {one.delivery.webhook_id for one in owed if one.delivery}
    others = db.session.scalars(
        sa.select(Webhook)
        .where(Webhook.merchant_id == merchant.id, Webhook.deleted_at.is_(None))
        .order_by(Webhook.created_at.desc(), Webhook.id.desc())
    )
    return owed + [
        _left_out(merchant, event, webhook) for webhook in others if webhook.id not in reached
    ]


def attempts_by_delivery(
    merchant_id: int, event_ids: Sequence[str], most: int
) -> dict[str, list[Attempt]]:
    """The newest `most` attempts of each delivery of some events, by the delivery's ID, the newest
    first."""
    nth = sa.func.row_number().over(partition_by=Attempt.delivery_id, order_by=Attempt.id.desc())
    numbered = (
        sa.select(Attempt.id, nth.label("nth"))
        .where(Attempt.merchant_id == merchant_id, Attempt.event_id.in_(event_ids))
        .subquery()
    )
    newest = sa.select(numbered.c.id).where(numbered.c.nth <= most)
    found: dict[str, list[Attempt]] = {}
    for attempt in db.session.scalars(
        sa.select(Attempt).where(Attempt.id.in_(newest)).order_by(Attempt.id.desc())
    ):
        found.setdefault(attempt.delivery_id, []).append(attempt)
    return found


def _left_out(merchant: Merchant, event: Event, webhook: Webhook) -> Destination:
    reason, is_judged_by_now = _reason(merchant, event, webhook)
    return Destination(webhook, None, None, [], reason, is_judged_by_now)


def _reason(merchant: Merchant, event: Event, webhook: Webhook) -> tuple[str, bool]:
    if event.is_test:
        return TEST_OF_ANOTHER, False
    if webhook.created_at > event.received_at:
        return CREATED_AFTER, False
    reason = matching.why_not(webhook, event.type, event.source_user_type, event.source_user_id)
    if reason == matching.DISABLED and (webhook.disabled_at or 0) > event.received_at:
        reason = None
    was_changed = webhook.updated_at > event.received_at
    if reason is None and not merchant.active:
        reason = matching.FEATURE_INACTIVE
    # The webhook has not changed since, so only the merchant can have kept it from being sent.
    elif reason is None and (merchant.activated_at or 0) > event.received_at and not was_changed:
        reason = WAS_INACTIVE
    return reason or UNKNOWN, was_changed


def attempt_detail(merchant_id: int, attempt_id: str) -> AttemptDetail:
    """A merchant's attempt with the exact bytes that were sent and that came back.

    Raises NotFound.
    """
    attempt = db.session.scalar(
        sa.select(Attempt).where(Attempt.merchant_id == merchant_id, Attempt.id == attempt_id)
    )
    if attempt is None:
        raise NotFound("There is no such attempt.")
    merchant = db.session.get_one(Merchant, merchant_id)
    expires_at = attempt.attempted_at + periods.payload_days(merchant) * DAY
    event = db.session.get(Event, (merchant_id, attempt.event_id))
    webhook = db.session.scalar(
        sa.select(Webhook).where(
            Webhook.merchant_id == merchant_id, Webhook.id == attempt.webhook_id
        )
    )
    delivery = db.session.get(Delivery, attempt.delivery_id)
    kept = db.session.get(EventPayload, (merchant_id, attempt.event_id))
    not_again = actions.why_not_again(webhook, kept is not None)
    log = db.session.get(AttemptPayload, attempt.id)
    if log is None or expires_at <= now():
        return AttemptDetail(
            attempt,
            event,
            webhook,
            expires_at,
            is_expired=True,
            was_not_kept=expires_at > now(),
            delivery=delivery,
            not_again=not_again,
        )
    body, is_lost = _request_body(kept, log)
    return AttemptDetail(
        attempt,
        event,
        webhook,
        expires_at,
        is_expired=False,
        request_headers=_pairs(log.request_headers),
        request_body=body,
        request_body_is_lost=is_lost,
        response_headers=_pairs(log.response_headers),
        response_body=log.response_body,
        is_truncated=log.truncated,
        delivery=delivery,
        not_again=not_again,
    )


def _request_body(kept: EventPayload | None, log: AttemptPayload) -> tuple[bytes | None, bool]:
    if log.body_kind not in (RECORD, THIN):
        return log.request_body, False
    if kept is None:
        return None, True
    payload = Payload(kept.head, kept.data, kept.previous)
    return event_body(payload, log.body_kind == RECORD).encode(), False


def _pairs(text: str | None) -> list[tuple[str, str]] | None:
    return None if text is None else [(name, value) for name, value in json.loads(text)]
