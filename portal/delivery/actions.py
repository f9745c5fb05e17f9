"""What people do with single deliveries: send one again, try a webhook out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session

from portal import queues, vault
from portal.audit.log import record
from portal.clock import now
from portal.composing.compose import ComposeError, Composer, Outgoing, Payload, Target
from portal.db import bulk
from portal.db.session import db, reading, table, writing
from portal.delivery import lanes, recording
from portal.delivery.due import DueDelivery
from portal.delivery.recording import FinishedAttempt
from portal.delivery.retry import UNAUTHORIZED
from portal.errors import Conflict, FieldError, Invalid, NotFound
from portal.events import catalogue, moments, rules
from portal.events.rows import DELIVERY, EVENT, EVENT_PAYLOAD, delivery_row, event_row, payload_row
from portal.fairness import courtesy, places
from portal.ids import new_id
from portal.models import Attempt, Delivery, Event, EventPayload, Webhook
from portal.models.delivery import PENDING, PENDING_LITERAL, SUCCEEDED, given_up, still
from portal.outbound import access_tokens, defects
from portal.outbound.access_tokens import Client
from portal.outbound.libcurl import admitted, send_now
from portal.outbound.response import Response
from portal.storage import allowance

BATCH = 250
"""How many deliveries one transaction changes, so that ingest and workers get their turn
between."""

WAS_DELETED = "The webhook was deleted."
"""Why a delivery is discarded with its webhook."""

_delivery = table(Delivery)


def why_not_again(webhook: Webhook | None, has_record: bool) -> str | None:
    """Why a delivery cannot be sent again, as a sentence; None if it can. Pages ask before they
    offer it. `has_record` says whether the event's record data is still kept."""
    if webhook is None or webhook.deleted_at is not None:
        return "The webhook is deleted; nothing can be sent to it any more."
    if not has_record:
        return "The event's record data is past its days; it cannot be sent again."
    if not webhook.enabled:
        return "The webhook is disabled; enable it first."
    return None


def resend(merchant_id: int, delivery_id: str, actor: str) -> Delivery:
    """Make one more attempt of a delivery as soon as possible, whatever its state.

    A delivery that was finished gets this one attempt. One that waits for a retry keeps all its
    attempts, and its wait begins again. One that was delivered stays so, whatever comes of it.
    Raises NotFound, or Conflict when the webhook is deleted or disabled or the event's record
    data is past its days.
    """
    with writing() as session:
        delivery = session.scalar(
            sa.select(Delivery)
            .where(Delivery.merchant_id == merchant_id, Delivery.id == delivery_id)
            # A drain may be about to write how its last attempt ended.
            .with_for_update()
        )
        if delivery is None:
            raise NotFound("There is no such delivery.")
        webhook = _webhook(merchant_id, delivery.webhook_id)
        has_payload = keeps_payload(session, merchant_id, delivery.event_id)
        refusal = why_not_again(webhook, has_payload)
        if refusal is not None:
            raise Conflict(refusal)
        _once_more(session, delivery, webhook, actor)
        lane = webhook.lane
    queues.wake([lane])
    return delivery


def resend_failed(merchant_id: int, event_id: str, actor: str) -> int:
    """The same for every failed delivery of an event whose webhook still sends. Returns how many
    there are.

    Raises NotFound, or Conflict when there is none or the event's record data is past its days.
    """
    with writing() as session:
        if session.get(Event, (merchant_id, event_id)) is None:
            raise NotFound("There is no such event.")
        if not keeps_payload(session, merchant_id, event_id):
            raise Conflict("The event's record data is past its days; it cannot be sent again.")
        failed = session.execute(
            sa.select(Delivery, Webhook)
            .join(Webhook, Webhook.id == Delivery.webhook_id)
            .where(
                Delivery.merchant_id == merchant_id,
                Delivery.event_id == event_id,
                Delivery.state == "failed",
                Webhook.enabled,
                Webhook.deleted_at.is_(None),
            )
            .order_by(Delivery.id)
            .with_for_update(of=Delivery)
        ).all()
        if not failed:
            raise Conflict("No webhook that sends failed with this event; nothing was sent again.")
        for delivery, webhook in failed:
            _once_more(session, delivery, webhook, actor)
        woken = sorted({webhook.lane for _, webhook in failed})
    queues.wake(woken)
    return len(failed)


def keeps_payload(session: scoped_session[Any], merchant_id: int, event_id: str) -> bool:
    """Whether an event's record data is still there. If so, the clean-up waits until this
    transaction has ended, and then sees what is pending."""
    return (
        session.scalar(
            sa.select(EventPayload.event_id)
            .where(EventPayload.merchant_id == merchant_id, EventPayload.event_id == event_id)
            .with_for_update(read=True, key_share=True)
        )
        is not None
    )


def _once_more(
    session: scoped_session[Any], delivery: Delivery, webhook: Webhook, actor: str
) -> None:
    if delivery.state != "pending":
        schedule = webhook.retry_schedule or current_app.config["PORTAL"].retry_schedule
        if delivery.state != SUCCEEDED:
            delivery.finished_at = None
        delivery.state = "pending"
        delivery.reason = None
        # Past the end: this attempt is none of the schedule, and none comes after it.
        delivery.step = len(schedule)
    delivery.trigger = "manual"
    delivery.is_retry = False
    delivery.next_attempt_at = now()
    record(
        session,
        actor,
        "delivery.resent",
        delivery.id,
        delivery.merchant_id,
        event_id=delivery.event_id,
        webhook_id=webhook.id,
    )


def discard_pending(webhook_id: str, reason: str) -> int:
    """End every pending delivery of a webhook as `discarded`, in batches. Returns how many."""
    pending = (
        sa.select(_delivery.c.id)
        # Uses the index of pending deliveries: that of all deliveries grows with the log.
        .where(
            _delivery.c.webhook_id == webhook_id,
            _delivery.c.state == PENDING_LITERAL,
            _delivery.c.is_retry.in_([False, True]),
        )
        .limit(BATCH)
    )
    total, is_over = 0, False
    while not is_over:
        began = time.monotonic()
        with writing(is_large=True) as session:
            ids = session.scalars(pending).all()
            # Asked again: a drain may have written meanwhile how one ended.
            discard = sa.update(_delivery).where(_delivery.c.id.in_(ids), still(PENDING))
            found = session.execute(discard.values(given_up(reason, now())))
        total += int(cast(sa.CursorResult[Any], found).rowcount)
        is_over = len(ids) < BATCH
        if not is_over:
            courtesy.breathe(time.monotonic() - began)
    return total


def discard_of_deleted() -> None:
    """End what deleted webhooks still owe. Who deletes one discards that; but their process may end
    in the middle, or the database go away, and an event may be stored at that very moment."""
    webhook = table(Webhook).c
    owing = sa.select(webhook.id).where(webhook.deleted_at.is_not(None), lanes.OWES)
    with reading() as session:
        found = session.scalars(owing).all()
    for webhook_id in found:
        discard_pending(webhook_id, WAS_DELETED)


def send_test(merchant_id: int, webhook_id: str, event_type: str, actor: str) -> Attempt:
    """Send the example of an event type to a webhook now and wait for the response. Returns the
    attempt as it was logged.

    It is an event of its own in the log, marked as a test, and is not retried. A disabled
    webhook can be tried too. Raises NotFound, Invalid for an unknown type, vault.Unreadable when
    no key opens the webhook's secrets, TooManyRequests while too many tests wait for their
    receivers, and StorageFull when the merchant's storage is full.
    """
    webhook = _webhook(merchant_id, webhook_id)
    if webhook.deleted_at is not None:
        raise NotFound("There is no such webhook.")
    found = catalogue.find(merchant_id, event_type)
    if found is None:
        message = f"The event type {event_type} is not in the catalogue."
        raise Invalid([FieldError("/type", message)])
    example = catalogue.example_event(found)
    if webhook.unreadable(now()):
        raise vault.Unreadable
    allowance.check(merchant_id)
    with places.held(places.TEST, merchant_id):
        return _test(merchant_id, webhook_id, event_type, example, actor)


def _test(
    merchant_id: int, webhook_id: str, event_type: str, example: dict[str, Any], actor: str
) -> Attempt:
    # It happens now, and to nobody's order of work.
    fields = {name: example.get(name) for name in rules.FIELDS}
    fields |= {"id": None, "occurred_at": None}
    (event,) = rules.clean_events(merchant_id, [fields], batch=False)
    event_id = new_id("evt")
    with writing() as session:
        moment = moments.next_moment(merchant_id, now())
        row = event_row(merchant_id, event_id, event, moment, 1, is_test=True)
        payload = payload_row(merchant_id, event_id, event, moment)
        bulk.insert(session.connection(), table(Event), EVENT, [row])
        bulk.insert(session.connection(), table(EventPayload), EVENT_PAYLOAD, [payload])
        record(session, actor, "webhook.tested", webhook_id, merchant_id, type=event_type)
    delivery = dict(
        zip(DELIVERY, delivery_row(merchant_id, event_id, webhook_id, moment, moment), strict=True)
    )
    due = DueDelivery(
        delivery["id"],
        merchant_id,
        event_id,
        webhook_id,
        0,
        0,
        "test",
        event_type,
        Payload(event.head(event_id, moment), event.data, event.previous),
    )
    tried = _try(_webhook(merchant_id, webhook_id), due)
    delivery |= {
        "state": "succeeded" if tried.ok else "failed",
        "attempts": 1,
        "trigger": "test",
        "next_attempt_at": None,
        "finished_at": tried.finished_at,
    }
    with writing() as session:
        session.execute(sa.insert(_delivery), [delivery])
        recording.log_attempts(session, recording.rows_of([tried]))
    return db.session.get_one(Attempt, tried.request_id)


def _try(webhook: Webhook, due: DueDelivery) -> FinishedAttempt:
    config = current_app.config["PORTAL"]
    moment = now()
    request_id, method, url = new_id("req"), webhook.method, webhook.url
    timeout = webhook.timeout_seconds or config.timeout_seconds
    target, client = Target.of(webhook, webhook.signing_secrets(moment)), Client.of(webhook.auth)
    # No transaction stays open while the receiver takes its time.
    db.session.rollback()
    outgoing = None

    def send(what: Outgoing, seconds: float) -> Response:
        return send_now(what, seconds, admitted(config), config.inspect_url, due.merchant_id)

    try:
        assert due.payload is not None
        if client is not None:
            target = target.with_token(_token(client, send))
        outgoing = Composer(target).compose(due.event_id, due.payload, moment)
        answer = send(outgoing, timeout)
    except ComposeError as error:
        answer = Response(error=error.code, error_detail=error.detail)
    except access_tokens.TokenRefused as error:
        answer = Response(error=error.code, error_detail=str(error))
    except Exception as error:  # noqa: BLE001 - a test tells what deliveries will meet
        answer = defects.answer(error, "make the request")
    if client is not None and answer.status == UNAUTHORIZED:
        access_tokens.forget(client, moment)
    return FinishedAttempt(request_id, due, method, url, outgoing, answer, moment, now())


def _token(client: Client, send: Callable[[Outgoing, float], Response]) -> str:
    token = access_tokens.known(client, now())
    if token is not None:
        return token
    answer = send(access_tokens.request(client), access_tokens.SECONDS)
    return access_tokens.read_token(client, answer, now())


def _webhook(merchant_id: int, webhook_id: str) -> Webhook:
    webhook = db.session.scalar(
        sa.select(Webhook).where(Webhook.merchant_id == merchant_id, Webhook.id == webhook_id)
    )
    if webhook is None:
        raise NotFound("There is no such webhook.")
    return webhook
