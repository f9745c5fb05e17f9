"""The moment that the log gives a merchant's next event: its moments are also its order."""

from __future__ import annotations

import sqlalchemy as sa

from portal.clock import DAY
from portal.db.session import db
from portal.models import Event

LEAD = DAY
"""How far ahead of the clock a merchant's last event may be for the next one still to come after
it. Further ahead means that the clock was wrong then, and the log does not follow it."""

last = (
    sa.select(Event.received_at)
    .where(
        Event.merchant_id == sa.bindparam("merchant_id"), Event.received_at < sa.bindparam("latest")
    )
    .order_by(Event.received_at.desc())
    .limit(1)
    .scalar_subquery()
)
"""The moment of the merchant's last event, of those before `latest`."""


def next_moment(merchant_id: int, moment: int) -> int:
    """The moment in the log of a merchant's next event, when the clock shows `moment` (both Unix
    µs); for an event that is stored in the running transaction, and not by `ingest_events`."""
    found = db.session.scalar(
        sa.select(last), {"merchant_id": merchant_id, "latest": moment + LEAD}
    )
    return after(found, moment)


def after(last_one: int | None, moment: int) -> int:
    """The moment of the event that comes after the last one."""
    return max(moment, (last_one or 0) + 1)
