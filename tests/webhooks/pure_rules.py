"""The rules of webhooks without a portal: no database, no name that is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from portal.composing import templating
from portal.errors import Invalid
from portal.events import catalogue
from portal.events.matching import pattern_matches
from portal.webhooks import fields as table
from portal.webhooks import rules
from portal.webhooks.kinds import RuleContext
from portal.webhooks.url_rules import UrlContext

BASIC = {"url": "https://erp.example.com/hooks", "events": ["order.created"]}
CURRENT = {**table.DEFAULTS, **BASIC} | {
    "headers": [
        {"name": "X-Auth", "value": "sealed:canary", "secret": True},
        {"name": "X-Open", "value": "open", "secret": False},
    ]
}


def is_known(pattern: str) -> bool:
    names = catalogue.built_in()
    return pattern in names or (
        pattern.endswith(".*") and any(pattern_matches(pattern, name) for name in names)
    )


def try_out(_kind: str, text: str, _columns: Mapping[str, Any]) -> None:
    try:
        templating.render(text, {"id": "evt_1"})
    except templating.TemplateFailed as error:
        raise ValueError(str(error)) from None


CONTEXT = RuleContext(
    reach=UrlContext(),
    is_known=is_known,
    nearest=lambda name: ["order.created"] if name == "order.creatd" else [],
    try_out=try_out,
    seal=lambda text: f"sealed:{text}",
    unseal=lambda token: token.removeprefix("sealed:"),
)


def cleaned(current: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return rules.clean(fields if current else BASIC | fields, current, CONTEXT)


def wrong(current: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, str]:
    """Pointer → message of what is wrong."""
    with pytest.raises(Invalid) as caught:
        cleaned(current, **fields)
    return {error.pointer: error.message for error in caught.value.errors}
