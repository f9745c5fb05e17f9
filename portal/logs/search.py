"""The search box: finds what people type by its exact key, whatever kind of thing it names.

Every query here follows an index to a handful of rows, however long the logs are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from portal.db.listing import clean_search
from portal.db.session import db
from portal.models import Attempt, Delivery, Event, Merchant, Webhook

SHOWN = 6
"""Rows of each kind. For more than these there are the filters of the logs."""
LOOKED_AT = 1_000
"""How many events with an object ID are read to find its object types."""
MIN_PART = 2
"""The least characters with which the names of webhooks and merchants are searched."""

_TYPED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*[\s:/#]\s*#?(\S.*)")
"""`order 1042`, `order:1042`, `order/1042`, `order #1042`."""


@dataclass(frozen=True)
class Record:
    """A record that events in the log are about."""

    merchant_id: int
    object_type: str
    object_id: str


@dataclass(frozen=True)
class Action:
    """A correlation ID that events in the log carry."""

    merchant_id: int
    correlation_id: str


@dataclass(frozen=True)
class Found:
    """What matches, at most SHOWN of each kind; `merchants` are those of all the rows, by ID.
    `events` also has the events of deliveries that were searched for."""

    text: str
    records: Sequence[Record] = ()
    events: Sequence[Event] = ()
    attempts: Sequence[Attempt] = ()
    actions: Sequence[Action] = ()
    webhooks: Sequence[Webhook] = ()
    stores: Sequence[Merchant] = ()
    merchants: dict[int, Merchant] = field(default_factory=dict)

    @property
    def all(self) -> list[Any]:
        """Everything that matches."""
        return [
            *self.records,
            *self.events,
            *self.attempts,
            *self.actions,
            *self.webhooks,
            *self.stores,
        ]


def find(text: str, merchant_ids: Collection[int] | None) -> Found:
    """What `text` names: a record by its number, an event, request, delivery or webhook by its ID,
    an action by its correlation ID, a webhook or (for staff) a merchant by a part of its name.

    `merchant_ids` are the merchants that the reader may see; None means all, for staff only.
    """
    text = clean_search(text)
    if not text or (merchant_ids is not None and not merchant_ids):
        return Found(text)
    own = sa.select(Merchant.id)
    if merchant_ids is not None:
        own = own.where(Merchant.id.in_(merchant_ids))
    found = Found(
        text,
        records=_records(text, own),
        events=_events(text, own),
        attempts=_rows(sa.select(Attempt).where(Attempt.id == text), Attempt.merchant_id, own),
        actions=_actions(text, own),
        webhooks=_webhooks(text, own),
        stores=_merchants(text) if merchant_ids is None else (),
    )
    owners = {row.merchant_id for row in found.all if not isinstance(row, Merchant)}
    named = db.session.scalars(sa.select(Merchant).where(Merchant.id.in_(owners)))
    found.merchants.update({merchant.id: merchant for merchant in named})
    return found


def _rows(query: sa.Select[Any], owner: Any, own: sa.Select[Any]) -> Sequence[Any]:
    return db.session.scalars(query.where(owner.in_(own)).limit(SHOWN)).all()


def _events(text: str, own: sa.Select[Any]) -> Sequence[Event]:
    if text.startswith("dlv_"):
        query = (
            sa.select(Event)
            .join(
                Delivery,
                sa.and_(Delivery.merchant_id == Event.merchant_id, Delivery.event_id == Event.id),
            )
            .where(Delivery.id == text)
        )
    else:
        query = sa.select(Event).where(Event.id == text)
    return _rows(query, Event.merchant_id, own)


def _records(text: str, own: sa.Select[Any]) -> list[Record]:
    wanted: list[tuple[str | None, str]] = [(None, text.removeprefix("#"))]
    typed = _TYPED.fullmatch(text)
    if typed:
        wanted.append((typed[1].lower(), typed[2]))
    found: list[Record] = []
    for object_type, object_id in wanted:
        of_record = [Event.object_id == object_id]
        if object_type:
            of_record.append(Event.object_type == object_type)
        # One look into the index for each merchant; distinct() would read all events of the record.
        owners = db.session.scalars(
            own.where(sa.exists().where(Event.merchant_id == Merchant.id, *of_record))
            .order_by(Merchant.id)
            .limit(SHOWN)
        ).all()
        for merchant_id in owners:
            types = [object_type] if object_type else _types(merchant_id, object_id)
            found += [Record(merchant_id, name, object_id) for name in types]
    return found[:SHOWN]


def _types(merchant_id: int, object_id: str) -> list[str]:
    """The object types of a merchant's records with an ID, among its newest events."""
    newest = (
        sa.select(Event.object_type)
        .where(Event.merchant_id == merchant_id, Event.object_id == object_id)
        .order_by(Event.received_at.desc(), Event.id.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    types = sa.select(newest.c.object_type).distinct().order_by(newest.c.object_type)
    return list(db.session.scalars(types.limit(SHOWN)))


def _actions(text: str, own: sa.Select[Any]) -> list[Action]:
    owners = db.session.scalars(
        own.where(
            sa.exists().where(
                Event.merchant_id == Merchant.id,
                Event.correlation_id == text,
                Event.correlation_id.is_not(None),
            )
        )
        .order_by(Merchant.id)
        .limit(SHOWN)
    )
    return [Action(merchant_id, text) for merchant_id in owners]


def _webhooks(text: str, own: sa.Select[Any]) -> Sequence[Webhook]:
    named = [Webhook.id == text]
    if len(text) >= MIN_PART:
        named += [
            Webhook.description.icontains(text, autoescape=True),
            Webhook.url.icontains(text, autoescape=True),
        ]
    query = sa.select(Webhook).where(sa.or_(*named), Webhook.deleted_at.is_(None))
    return _rows(query.order_by(Webhook.created_at.desc()), Webhook.merchant_id, own)


def _merchants(text: str) -> Sequence[Merchant]:
    if len(text) < MIN_PART:
        return []
    return db.session.scalars(
        sa.select(Merchant)
        .where(
            sa.or_(Merchant.slug == text.lower(), Merchant.name.icontains(text, autoescape=True))
        )
        .order_by(Merchant.name)
        .limit(SHOWN)
    ).all()
