"""How long a merchant's logs are kept: as long as the portal's settings say, or less."""

from __future__ import annotations

from flask import current_app

from portal.audit.log import record
from portal.characters import whole_number
from portal.config import Config
from portal.db.session import writing
from portal.errors import FieldError
from portal.models import Merchant
from portal.people.rules import refuse


def event_days(merchant: Merchant | None) -> int:
    """How many days a merchant's events and header logs are kept; for None, those of merchants
    without a period of their own."""
    config: Config = current_app.config["PORTAL"]
    own = merchant.event_days if merchant else None
    return config.event_days if own is None else own


def payload_days(merchant: Merchant) -> int:
    """How many days a merchant's payload logs and record data are kept."""
    config: Config = current_app.config["PORTAL"]
    return merchant.payload_days if merchant.payload_days is not None else config.payload_days


def change(merchant: Merchant, event_text: str, payload_text: str, actor: str) -> None:
    """Keep a merchant's logs for as many days as a form says, from the next clean-up on.

    If these are as many as in the portal's settings, they follow the settings when those change.
    Raises Invalid.
    """
    config: Config = current_app.config["PORTAL"]
    events, errors = _days("/event_days", event_text, config.event_days)
    payloads, more = _days("/payload_days", payload_text, config.payload_days)
    errors += more
    if not errors and payloads > events:
        errors.append(
            FieldError(
                "/payload_days",
                f"Payloads cannot be kept longer than events: give {events} or fewer days.",
            )
        )
    refuse(errors)
    with writing() as session:
        before = {"event_days": event_days(merchant), "payload_days": payload_days(merchant)}
        after = {"event_days": events, "payload_days": payloads}
        if after == before:
            return
        merchant.event_days = events if events != config.event_days else None
        merchant.payload_days = payloads if payloads != config.payload_days else None
        record(
            session,
            actor,
            "merchant.retention_changed",
            merchant.slug,
            merchant.id,
            **after,
            before=before,
        )


def _days(pointer: str, text: str, most: int) -> tuple[int, list[FieldError]]:
    number = whole_number(text.strip(), digits=4)
    if number is not None and 1 <= number <= most:
        return number, []
    return 0, [FieldError(pointer, f"Give a whole number of days from 1 to {most}.")]
