"""How much storage staff give a merchant."""

from __future__ import annotations

from portal.audit.log import record
from portal.characters import whole_number
from portal.db.session import writing
from portal.errors import FieldError, Invalid
from portal.models import Merchant
from portal.storage import allowance

MOST_MB = 2_000_000_000


def change(merchant: Merchant, text: str, actor: str) -> None:
    """Let a merchant store as many MB as a text says: 0 means any amount, an empty text as much as
    PORTAL_MERCHANT_MB. Raises Invalid."""
    mb = _mb(text)
    with writing() as session:
        before = merchant.storage_mb
        if mb == before:
            return
        merchant.storage_mb = mb
        record(
            session,
            actor,
            "merchant.storage_changed",
            merchant.slug,
            merchant.id,
            storage_mb=mb,
            before={"storage_mb": before},
        )
    allowance.forget()


def _mb(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    number = whole_number(text, digits=10)
    if number is not None and number <= MOST_MB:
        return number
    raise Invalid(
        [
            FieldError(
                "/storage_mb",
                f"Give a whole number of MB from 1 to {MOST_MB:,}, 0 for any amount, or "
                "nothing for the portal's own.",
            )
        ]
    )
