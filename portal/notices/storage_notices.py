"""Mail about a merchant's storage: once when it is nearly used up, once when it is used up, and not
again until there was room in between."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.audit.log import record
from portal.db.session import reading, writing
from portal.models import Merchant, OperationsEntry
from portal.notices.notices import notify_members
from portal.storage import allowance
from portal.storage.allowance import Usage, amount, in_words

KIND = "storage"
ROOM = 0.75
"""The used part of the storage below which people will be told again: if it goes up and down around
a mark day and night, they are told only once."""
NOTHING, NEARLY, FULL = 0, 1, 2


def run() -> int:
    """Queue mail about what has changed since the last time. Returns for how many merchants."""
    with reading() as session:
        told = dict(session.execute(sa.select(Merchant.id, Merchant.storage_told)).all())
    return sum(
        _notify_if_changed(merchant_id, told[merchant_id])
        for merchant_id, usage in allowance.of_all().items()
        if merchant_id in told and _level(usage, told[merchant_id]) != told[merchant_id]
    )


def _level(usage: Usage, told: int) -> int:
    """The level that people have been told of after this; never a lower one until there was
    room."""
    if usage.is_full:
        return FULL
    if usage.is_nearly_full:
        return max(NEARLY, told)
    return told if usage.part >= ROOM else NOTHING


def _notify_if_changed(merchant_id: int, before: int) -> bool:
    usage = allowance.of([merchant_id])[merchant_id]
    level = _level(usage, before)
    with writing() as session:
        merchant = session.get(Merchant, merchant_id, with_for_update=True)
        if merchant is None or merchant.storage_told != before:
            # Another process has told them.
            return False
        merchant.storage_told = level
        if level <= before:
            return False
        _notify(session, merchant, usage, level)
    return True


def _notify(session: scoped_session[Any], merchant: Merchant, usage: Usage, level: int) -> None:
    assert usage.bound is not None
    name, stored = merchant.name, in_words(usage)
    action = "merchant.storage_full" if level == FULL else "merchant.storage_nearly_full"
    record(
        session,
        "portal",
        action,
        merchant.slug,
        merchant.id,
        stored=usage.stored,
        may_store=usage.bound,
    )
    remedy = "Keep its logs for fewer days, or ask who runs the portal for more room."
    if level == FULL:
        session.add(
            OperationsEntry(
                kind=KIND,
                message=(
                    f"The storage of merchant {merchant.slug} is full: {stored}. Its "
                    f"events are refused."
                ),
            )
        )
        headline = "storage is full, new events are refused"
        text = (
            f"{name} has stored {stored} in Webhook Portal. New events are refused until there is "
            f"room; what waits is still delivered. {remedy}"
        )
    else:
        headline = f"storage is {usage.part:.0%} full"
        text = (
            f"{name} has stored {stored} in Webhook Portal. At {amount(usage.bound)} new events "
            f"will be refused. {remedy}"
        )
    notify_members(session, merchant, KIND, headline, text, "settings#storage")
