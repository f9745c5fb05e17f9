"""Rows for tests, named by what they are."""

from __future__ import annotations

from typing import Any, TypeVar

from flask import current_app

from portal.clock import HOUR, now
from portal.db import bulk
from portal.db.session import db, table, writing
from portal.ids import new_id
from portal.models import (
    Attempt,
    AttemptPayload,
    Delivery,
    Event,
    EventPayload,
    Membership,
    Merchant,
    User,
    Webhook,
)
from portal.models.user import STAFF_ROLES
from portal.models.webhook import lane_of
from portal.signing import new_secret

Row = TypeVar("Row")


def _save(row: Row) -> Row:
    db.session.add(row)
    db.session.commit()
    return row


def make_merchant(slug: str = "alice", *, active: bool = True, **fields: Any) -> Merchant:
    """A merchant; active unless said otherwise."""
    return _save(Merchant(slug=slug, name=f"{slug}'s store", active=active, **fields))


def make_user(
    role: str = "editor",
    merchant: Merchant | None = None,
    *,
    email: str = "",
    password: str = "correct horse battery",
) -> User:
    """A user: staff for `auditor` and `operator`, otherwise a member of the merchant."""
    user = User(email=email or f"{role}-{new_id('u')[-8:]}@example.com", name=role)
    user.set_password(password)
    if role in STAFF_ROLES:
        user.staff_role = role
    elif merchant is not None:
        user.memberships = [Membership(merchant_id=merchant.id, role=role)]
    return _save(user)


def make_webhook(
    merchant: Merchant, url: str = "https://erp.example.com/hook", **fields: Any
) -> Webhook:
    """An enabled webhook for everything, with a fresh secret."""
    webhook_id = new_id("wh")
    values: dict[str, Any] = {
        "events": ["*"],
        "query_params": [],
        "headers": [],
        "only_sources": [],
        "except_sources": [],
        "description": "ERP",
    }
    webhook = Webhook(
        id=webhook_id,
        merchant_id=merchant.id,
        url=url,
        lane=lane_of(webhook_id, current_app.config["PORTAL"].lanes),
        **(values | fields),
    )
    webhook.set_secret(new_secret())
    return _save(webhook)


def make_event(
    merchant: Merchant, *, data: str | None = '{"total":"99.50"}', **fields: Any
) -> Event:
    """An event of order 1000 with its payload; `data` None means without."""
    moment = fields.pop("received_at", now())
    values: dict[str, Any] = {
        "id": new_id("evt"),
        "type": "order.created",
        "object_type": "order",
        "object_id": "1000",
        "occurred_at": moment,
        "received_at": moment,
    }
    event = Event(merchant_id=merchant.id, **(values | fields))
    db.session.add(
        EventPayload(
            merchant_id=merchant.id,
            event_id=event.id,
            data=data,
            received_at=moment,
            head=f'{{"id":"{event.id}","type":"{event.type}"}}',
        )
    )
    return _save(event)


def make_delivery(
    event: Event, webhook: Webhook, state: str = "pending", **fields: Any
) -> Delivery:
    """What an event owes a webhook; due now when pending."""
    values: dict[str, Any] = {
        "created_at": event.received_at,
        "next_attempt_at": event.received_at if state == "pending" else None,
        "finished_at": None if state == "pending" else now(),
        "attempts": 0 if state == "pending" else 1,
    }
    return _save(
        Delivery(
            id=new_id("dlv"),
            merchant_id=event.merchant_id,
            event_id=event.id,
            webhook_id=webhook.id,
            state=state,
            **(values | fields),
        )
    )


def make_attempt(delivery: Delivery, status: int | None = 200, **fields: Any) -> Attempt:
    """A logged attempt with its payload log."""
    values: dict[str, Any] = {
        "id": new_id("req"),
        "number": 1,
        "trigger": "scheduled",
        "attempted_at": now(),
        "method": "POST",
        "uri": "https://erp.example.com/hook",
        "error": None,
        "duration_us": 41_000,
        "dns_us": 1_000,
        "connect_us": 5_000,
        "send_us": 1_000,
        "wait_us": 29_000,
        "download_us": 1_000,
        "sends": 1,
        "ok": status is not None and 200 <= status < 300,
    }
    payload = {
        "request_headers": '[["Content-Type","application/json"]]',
        "body_kind": "record",
        "request_body": None,
        "response_headers": '[["X-Trace","7"]]',
        "response_body": b"ok",
    }
    payload |= {name: fields.pop(name) for name in list(fields) if name in payload}
    attempt = Attempt(
        merchant_id=delivery.merchant_id,
        event_id=delivery.event_id,
        webhook_id=delivery.webhook_id,
        delivery_id=delivery.id,
        status=status,
        **(values | fields),
    )
    db.session.add(
        AttemptPayload(attempt_id=attempt.id, merchant_id=delivery.merchant_id, **payload)
    )
    return _save(attempt)


def make_deliveries(
    merchant: Merchant, webhook: Webhook, count: int, state: str = "failed"
) -> None:
    """So many deliveries of an hour ago, without the ORM."""
    moment = now() - HOUR
    ids = [new_id("evt") for _ in range(count)]
    with writing() as session:
        bulk.insert(
            session.connection(),
            table(Event),
            (
                "merchant_id",
                "id",
                "type",
                "object_type",
                "occurred_at",
                "received_at",
                "deliveries",
                "is_test",
            ),
            [
                (merchant.id, one, "order.created", "order", moment, moment + number, 1, False)
                for number, one in enumerate(ids)
            ],
        )
        bulk.insert(
            session.connection(),
            table(EventPayload),
            ("merchant_id", "event_id", "head", "received_at"),
            [(merchant.id, one, f'{{"id":"{one}"}}', moment) for one in ids],
        )
        bulk.insert(
            session.connection(),
            table(Delivery),
            (
                "id",
                "merchant_id",
                "event_id",
                "webhook_id",
                "state",
                "attempts",
                "step",
                "is_retry",
                "trigger",
                "created_at",
                "finished_at",
                "next_attempt_at",
            ),
            [
                (
                    new_id("dlv"),
                    merchant.id,
                    one,
                    webhook.id,
                    state,
                    1,
                    9,
                    False,
                    "scheduled",
                    moment + number,
                    moment + number if state == "failed" else None,
                    None if state == "failed" else moment + number,
                )
                for number, one in enumerate(ids)
            ],
        )
