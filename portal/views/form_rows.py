"""Names and values of a form, and how a secret one goes through a page: sealed, for one merchant,
so that no page holds its text."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from portal import vault
from portal.models import Merchant
from portal.models.webhook import MASK


@dataclass
class Row:
    """One name and its value. `sealed` holds a secret that was typed."""

    name: str = ""
    value: str = ""
    secret: bool = False
    sealed: str = ""
    is_new: bool = False

    def seal(self, sealed: str, merchant: Merchant) -> None:
        """Keep a secret that was typed; where the mask stands, the one that was `sealed` before."""
        if self.value == MASK:
            self.sealed = sealed
        elif self.secret and self.value:
            self.sealed = vault.encrypt(json.dumps([merchant.id, self.value]))

    def masked(self) -> Row:
        """The same for a page."""
        return replace(self, value=MASK) if self.sealed else self

    def text(self, merchant: Merchant) -> str:
        """The value itself; the mask, where it stands for what is stored."""
        if self.value != MASK or not self.sealed or not self.secret:
            return self.value
        try:
            merchant_id, value = json.loads(vault.decrypt(self.sealed))
        except (vault.Unreadable, ValueError):
            return self.value
        return str(value) if merchant_id == merchant.id else self.value
