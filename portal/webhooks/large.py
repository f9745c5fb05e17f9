"""Changes of webhooks that leave much in the audit log, which keeps them for ever, and large new
webhooks: the row of one that is deleted stays, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portal.storage import allowance
from portal.strict_json import dump

LARGE = 4_096
"""Characters of what is noted of a change, from which on the merchant must have room for it. Most
changes are far smaller, and a webhook can be mended also where the storage is full."""


def ask(merchant_id: int, detail: Mapping[str, Any]) -> None:
    """Whether a change, or a new webhook, may be stored. Raises StorageFull where it is large and
    the merchant has stored what it may."""
    if len(dump(detail)) >= LARGE:
        allowance.ask(merchant_id)
