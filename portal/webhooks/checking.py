"""Checks of a webhook before it is stored, and a preview of what it would send, for the form and
the API alike."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import current_app

from portal import vault
from portal.addresses import DEFAULT_PORTS
from portal.db.session import db
from portal.errors import FieldError, Invalid
from portal.events import catalogue
from portal.events.matching import pattern_matches
from portal.models import Webhook
from portal.outbound import egress
from portal.outbound.libcurl import admitted
from portal.outbound.resolver import addresses_of
from portal.webhooks import previews, rules
from portal.webhooks.fields import columns
from portal.webhooks.kinds import RuleContext
from portal.webhooks.url_rules import UrlContext, clean_url


def validate(
    merchant_id: int, fields: Any, existing: Webhook | None = None, *, resolve: bool = True
) -> dict[str, Any]:
    """A webhook's columns from fields as the API takes them, checked by portal.webhooks.rules.

    With `existing`, what is not sent stays as it is. `resolve` says whether the URL's host name
    is looked up and refused when it leads to an address that may not be reached.
    Raises Invalid naming every wrong field, with pointers such as `/headers/X-Auth`.
    """
    current = None if existing is None else columns(existing)
    types = frozenset(catalogue.known_names(merchant_id))

    def is_known(pattern: str) -> bool:
        if pattern.endswith(".*"):
            return any(pattern_matches(pattern, name) for name in types)
        return pattern in types

    context = RuleContext(
        reach=_reach(merchant_id, resolve=resolve),
        is_known=is_known,
        nearest=lambda name: catalogue.nearest(merchant_id, name),
        try_out=previews.Trial(merchant_id),
        seal=vault.encrypt,
        unseal=_opened,
    )
    return rules.clean(fields, current, context)


def preview(merchant_id: int, fields: Any, existing: Webhook | None = None) -> previews.Preview:
    """The request that these fields would make of the newest matching event, or of an example; or
    the reason why there is none. Stores and sends nothing, and looks up no name. While there is no
    URL, previews.URL_TO_GIVE stands in for it."""
    if not fields.get("url", existing.url if existing else ""):
        fields = {**fields, "url": previews.URL_TO_GIVE}
    try:
        cleaned = validate(merchant_id, fields, existing, resolve=False)
    except Invalid as error:
        return previews.Preview(errors=error.errors)
    try:
        return previews.make(merchant_id, cleaned, existing)
    except vault.Unreadable as error:
        return previews.Preview([FieldError("", error.detail)])


def url_problem(url: str, merchant_id: int) -> str | None:
    """Why a merchant's webhook cannot have this URL, as a sentence; None if it can. The host name
    is looked up."""
    try:
        clean_url(url, _reach(merchant_id, resolve=True))
    except ValueError as error:
        return str(error)
    return None


def _opened(token: str) -> str:
    try:
        return vault.decrypt(token)
    except vault.Unreadable:
        raise ValueError(
            "What is stored here was encrypted under a key that the portal does not have: give it "
            "anew, or remove it."
        ) from None


def _reach(merchant_id: int, *, resolve: bool) -> UrlContext:
    config = current_app.config["PORTAL"]
    public = urlsplit(config.public_url)
    own = {
        ((public.hostname or "").lower(), public.port or DEFAULT_PORTS[public.scheme]),
        *((host, config.port) for host in (config.host, "localhost", "127.0.0.1", "::1")),
    }
    listens_everywhere = config.host in ("0.0.0.0", "::")
    return UrlContext(
        admitted(config),
        frozenset(own),
        config.inspect_url,
        lambda address, port: (
            listens_everywhere and port == config.port and egress.is_of_this_machine(address)
        ),
        (lambda host: _looked_up(host, merchant_id)) if resolve else None,
    )


def _looked_up(host: str, merchant_id: int) -> list[egress.Address]:
    # It may take seconds, and SQLite's log would grow as long as a snapshot were open.
    db.session.rollback()
    return addresses_of(host, merchant_id)
