"""Large changes of webhooks, which the audit log keeps for ever, and large new webhooks, whose rows
stay when they are deleted: both need room in the merchant's storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portal.storage import allowance
from portal.strict_json import dump

LARGE = 4_096
"""From so many characters in the audit log on, a change needs room. Most changes are far smaller,
so that a webhook can be corrected even while the storage is full."""


def check(merchant_id: int, detail: Mapping[str, Any]) -> None:
    """Check that a change, or a new webhook, may be stored. Raises StorageFull if it is large and
    the merchant has used up its storage."""
    if len(dump(detail)) >= LARGE:
        allowance.check(merchant_id)
