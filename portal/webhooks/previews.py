"""What a webhook's settings would do: the request they make, the events they match."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from portal import signing, vault
from portal.clock import DAY, now
from portal.composing.cell_limits import is_template
from portal.composing.cells import NotFilled, TookTooLong, cells
from portal.composing.compose import (
    ComposeError,
    Composer,
    Outgoing,
    Payload,
    Target,
    authorization,
    certificate,
    event_body,
)
from portal.db.session import db, table
from portal.errors import FieldError, TooManyRequests
from portal.events import catalogue, rules
from portal.events.matching import pattern_matches
from portal.events.rows import payload_row
from portal.fairness import places
from portal.models import Event, EventPayload, Webhook
from portal.models.webhook import Pair
from portal.outbound.access_tokens import Client
from portal.webhooks.pair_rules import KINDS, MAX_VALUE

CAP = 1_000
"""Matching events are counted up to here."""
_SCANNED = 50_000
"""Events looked at for a count: a source filter that hardly anything passes stays cheap."""
_NEWEST = 100
"""Events of each type looked at for a preview."""
EXAMPLE_ID = "evt_example"
URL_TO_GIVE = "https://your-receiver.example/"
"""Stands in a preview for a URL that is not given yet; nobody can have this name (RFC 2606)."""
_TOKEN = "asked-for-when-it-is-sent"
"""Stands for an access token, which is masked."""
_PATIENCE_SECONDS = 5.0
"""How long templates that are saved wait for those of other merchants: each takes a moment."""
_MASKED_SIGNATURE = "made with the secret when it is sent"


@dataclass(frozen=True)
class Preview:
    """The request that an event would make now, or what keeps it from being made.

    `event_id` is None where the catalogue's example stands in for an event.
    """

    errors: Sequence[FieldError] = ()
    event_type: str = ""
    event_id: str | None = None
    method: str = ""
    url: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str | None = None
    warning: str = ""


class Trial:
    """Fills templates from the example of the first event type that triggers a webhook."""

    def __init__(self, merchant_id: int):
        self._merchant_id = merchant_id
        self._events: dict[tuple[str, bool], str] = {}
        self._takes_too_long = False

    def __call__(self, kind: str, text: str, cleaned: Mapping[str, Any]) -> None:
        """Raises ValueError, with a sentence, for a template that cannot be used."""
        if not is_template(text):
            return
        if self._takes_too_long:
            raise ValueError("The Liquid was not tried, because another one here takes too long.")
        try:
            with places.held(places.TEMPLATE, self._merchant_id, _PATIENCE_SECONDS):
                (made,) = cells.fill(self._event(cleaned), [text])
        except TooManyRequests as error:
            raise ValueError(f"The Liquid was not tried. {error.detail}") from None
        except NotFilled as error:
            self._takes_too_long = isinstance(error, TookTooLong)
            raise ValueError(f"The Liquid cannot be used: {error}.") from None
        if kind in KINDS and len(made.encode()) > MAX_VALUE:
            raise ValueError(f"The Liquid makes more than {MAX_VALUE // 1024} KiB.")

    def _event(self, cleaned: Mapping[str, Any]) -> str:
        """The JSON text of the example."""
        name = _example_type(self._merchant_id, cleaned["events"])
        with_record = cleaned["include_object_record"]
        if (name, with_record) not in self._events:
            payload = _example(self._merchant_id, name)[1]
            self._events[name, with_record] = event_body(payload, with_record)
        return self._events[name, with_record]


def make(merchant_id: int, cleaned: Mapping[str, Any], existing: Webhook | None) -> Preview:
    """The request that checked columns make of the newest event they match.

    Signed with the secrets of `existing`; a new webhook has none yet, so its signatures are
    masked.
    """
    moment = now()
    found = _newest(merchant_id, cleaned)
    if found is None:
        event_type = _example_type(merchant_id, cleaned["events"])
        shown_id, (event_id, payload) = None, _example(merchant_id, event_type)
    else:
        event_type, shown_id, payload = found
        event_id = shown_id
    secrets = existing.signing_secrets(moment) if existing else [signing.new_secret()]
    target = Target(
        method=cleaned["method"],
        url=cleaned["url"],
        query_params=[_opened(pair) for pair in cleaned["query_params"]],
        headers=[_opened(pair) for pair in cleaned["headers"]],
        authorization=authorization(cleaned["auth"]),
        certificate=certificate(cleaned["auth"]),
        include_object_record=cleaned["include_object_record"],
        body_template=cleaned["body_template"],
        signing_secrets=secrets,
        sign_ed25519=cleaned["sign_ed25519"],
    )
    if Client.of(cleaned["auth"]) is not None:
        target = target.with_token(_TOKEN)
    try:
        outgoing = Composer(target).compose(event_id, payload, moment)
    except ComposeError as error:
        return Preview([FieldError("", error.detail)], event_type, shown_id)
    headers = outgoing.shown_headers
    if existing is None:
        headers = [(name, _masked(name, value)) for name, value in headers]
    body = None if outgoing.body is None else outgoing.body.decode()
    return Preview(
        (), event_type, shown_id, outgoing.method, outgoing.shown_url, headers, body,
        _warning(outgoing),
    )


def matched_last_week(merchant_id: int, cleaned: Mapping[str, Any]) -> int:
    """How many events of the last 7 days match, tests left out; counted up to CAP."""
    events = (
        sa.select(Event.source_user_type, Event.source_user_id)
        .where(
            Event.merchant_id == merchant_id, Event.received_at >= now() - 7 * DAY,
            Event.is_test.is_(False), *_of_types(merchant_id, cleaned["events"]),
        )
        .limit(_SCANNED)
        .subquery()
    )
    matching = (
        sa.select(sa.literal(1).label("one"))
        .select_from(events)
        .where(*_from_sources(events.c, cleaned))
        .limit(CAP)
        .subquery()
    )
    return db.session.scalar(sa.select(sa.func.count()).select_from(matching)) or 0


def _opened(pair: Pair) -> Pair:
    if not pair["secret"]:
        return pair
    return {"name": pair["name"], "value": vault.decrypt(pair["value"]), "secret": True}


def _masked(name: str, value: str) -> str:
    if name in ("webhook-signature", "Evox-Signature"):
        versions = [f"{entry.partition(',')[0]},…" for entry in value.split() if "," in entry]
        return f"{' '.join(versions) or '…'} ({_MASKED_SIGNATURE})"
    return value


def _warning(outgoing: Outgoing) -> str:
    kind = next(
        (value for name, value in outgoing.headers if name.lower() == "content-type"), ""
    )
    if outgoing.body is None or "json" not in kind.lower():
        return ""
    try:
        json.loads(outgoing.body)
    except (ValueError, RecursionError):
        return (
            "The body is not valid JSON, though its Content-Type says so. Use | json for values "
            "in the template, or add a Content-Type header that fits."
        )
    return ""


def _types(merchant_id: int, patterns: Sequence[str]) -> list[str]:
    """The catalogue's types that the patterns cover, in the patterns' order."""
    known = catalogue.known_names(merchant_id)
    return list(dict.fromkeys(
        name for pattern in patterns for name in known if pattern_matches(pattern, name)
    ))


def _example_type(merchant_id: int, patterns: Sequence[str]) -> str:
    """The first type that the patterns cover; any, where what they covered is gone."""
    names = _types(merchant_id, patterns) or catalogue.known_names(merchant_id)
    return names[0]


def _example(merchant_id: int, event_type: str) -> tuple[str, Payload]:
    """ID and payload of a type's example, as an event that happens now."""
    found = catalogue.find(merchant_id, event_type)
    assert found is not None, "known a moment ago"
    example = catalogue.example_event(found)
    fields = {name: example.get(name) for name in rules.FIELDS}
    fields |= {"id": None, "occurred_at": None}
    (event,) = rules.clean_events(merchant_id, [fields], batch=False)
    row = payload_row(merchant_id, EXAMPLE_ID, event, now())
    return EXAMPLE_ID, Payload(row["head"], row["data"], row["previous"])


def example_body(merchant_id: int, event_type: str) -> str:
    """The body that a webhook gets of a known type's example, with its record, as JSON text."""
    return event_body(_example(merchant_id, event_type)[1], include_record=True)


def _newest(
    merchant_id: int, cleaned: Mapping[str, Any]
) -> tuple[str, str, Payload] | None:
    """Type, ID and payload of the newest event that matches and still has its payload."""
    event = table(Event).c
    names: Sequence[str | None] = [None]
    if "*" not in cleaned["events"]:
        names = _types(merchant_id, cleaned["events"])
    best: Any = None
    for name in names:
        # One short walk down an index for each type, however many events there are.
        newest = (
            sa.select(event.id, event.type, event.received_at, event.source_user_type,
                      event.source_user_id)
            .where(event.merchant_id == merchant_id, *([event.type == name] if name else []))
            .order_by(event.received_at.desc())
            .limit(_NEWEST)
            .subquery()
        )
        found = db.session.execute(
            sa.select(
                newest.c.received_at, newest.c.type, newest.c.id, EventPayload.head,
                EventPayload.data, EventPayload.previous,
            )
            .join(
                EventPayload,
                (EventPayload.merchant_id == merchant_id) & (EventPayload.event_id == newest.c.id),
            )
            .where(*_from_sources(newest.c, cleaned))
            .order_by(newest.c.received_at.desc())
            .limit(1)
        ).first()
        if found is not None and (best is None or found.received_at > best.received_at):
            best = found
    if best is None:
        return None
    return best.type, best.id, Payload(best.head, best.data, best.previous)


def _of_types(merchant_id: int, patterns: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    if "*" in patterns:
        return []
    return [Event.type.in_(_types(merchant_id, patterns))]


def _from_sources(columns: Any, cleaned: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """The source filter of portal.events.matching.why_not, as SQL."""

    def any_of(sources: Sequence[str]) -> sa.ColumnElement[bool]:
        parts = []
        for source in sources:
            user_type, colon, user_id = source.partition(":")
            # NULL compares as unknown; coalesce makes it "some other source".
            part = sa.func.coalesce(columns.source_user_type, "") == user_type
            if colon:
                part &= sa.func.coalesce(columns.source_user_id, "") == user_id
            parts.append(part)
        return sa.or_(*parts)

    conditions = []
    if cleaned["only_sources"]:
        conditions.append(any_of(cleaned["only_sources"]))
    if cleaned["except_sources"]:
        conditions.append(sa.not_(any_of(cleaned["except_sources"])))
    return conditions
