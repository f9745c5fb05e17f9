"""What a webhook's settings would do: the request they would make, the events they would match."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from portal import signing
from portal.clock import DAY, now
from portal.composing.cell_limits import is_template
from portal.composing.cells import NotFilled, TookTooLong, cells
from portal.composing.compose import ComposeError, Composer, Outgoing, Payload, Target, event_body
from portal.db.session import db, table
from portal.errors import FieldError, TooManyRequests
from portal.events import catalogue, rules
from portal.events.matching import SENT, pattern_matches, why_not
from portal.fairness import places
from portal.models import Event, EventPayload, Webhook
from portal.outbound.access_tokens import Client
from portal.webhooks.pair_rules import KINDS, MAX_VALUE

CAP = 1_000
"""Matching events are counted up to here."""
_SCANNED = 50_000
"""How many events a count looks at, so that a source filter that hardly any event passes is
cheap."""
_NEWEST = 100
"""How many events of each type a preview looks at."""
EXAMPLE_ID = "evt_example"
URL_TO_GIVE = "https://your-receiver.example/"
"""Stands in a preview for a URL that is not given yet; nobody can own this name (RFC 2606)."""
_TOKEN = "asked-for-when-it-is-sent"
"""Stands for an access token, which is masked."""
_PATIENCE_SECONDS = 5.0
"""How long saving a template waits for those of other merchants: each takes a moment."""
_MASKED_SIGNATURE = "made with the secret when it is sent"


@dataclass(frozen=True)
class Preview:
    """The request that an event would make now, or the reason why there is none.

    `event_id` is None when the catalogue's example stands in for an event.
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
    """Fills templates with the example of the first event type that triggers a webhook."""

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
        example = self._event(cleaned)
        # No snapshot stays open while it waits for a cell: SQLite's log would grow meanwhile.
        db.session.rollback()
        try:
            with places.held(places.TEMPLATE, self._merchant_id, _PATIENCE_SECONDS):
                (made,) = cells.fill(example, [text])
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
    """The request that checked columns make of the newest event that matches.

    It is signed with the secrets of `existing`; a new webhook has none yet, so its signatures are
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
    target = Target.of(Webhook(**cleaned), secrets)
    if Client.of(cleaned["auth"]) is not None:
        target = target.with_token(_TOKEN)
    # As in Trial: a cell may fill its templates.
    db.session.rollback()
    try:
        outgoing = Composer(target).compose(event_id, payload, moment)
    except ComposeError as error:
        return Preview([FieldError("", error.detail)], event_type, shown_id)
    headers = outgoing.shown_headers
    if existing is None:
        headers = [(name, _masked(name, value)) for name, value in headers]
    body = None if outgoing.body is None else outgoing.body.decode()
    return Preview(
        (),
        event_type,
        shown_id,
        outgoing.method,
        outgoing.shown_url,
        headers,
        body,
        _warning(outgoing),
    )


def matched_last_week(merchant_id: int, cleaned: Mapping[str, Any]) -> int:
    """How many events of the last 7 days match, without tests; counted up to CAP."""
    is_any = "*" in cleaned["events"]
    events = (
        sa.select(Event.type, Event.source_user_type, Event.source_user_id)
        .where(
            Event.merchant_id == merchant_id,
            Event.received_at >= now() - 7 * DAY,
            Event.is_test.is_(False),
            sa.true() if is_any else Event.type.in_(_types(merchant_id, cleaned["events"])),
        )
        .limit(_SCANNED)
        .subquery()
    )
    # Grouped by what the decision depends on, so that the same function decides as for new events.
    alike = db.session.execute(sa.select(*events.c, sa.func.count()).group_by(*events.c)).all()
    wants = _wants(cleaned)
    count: int = sum(row[3] for row in alike if wants(*row[:3]))
    return min(CAP, count)


def _wants(cleaned: Mapping[str, Any]) -> Callable[[str, str | None, str | None], bool]:
    """Whether an event of this type and source would be sent while the webhook is enabled."""
    settings = Webhook(**{**cleaned, "enabled": True})
    return lambda *event: why_not(settings, *event) is SENT


def _masked(name: str, value: str) -> str:
    if name in ("webhook-signature", "Evox-Signature"):
        versions = [f"{entry.partition(',')[0]},…" for entry in value.split() if "," in entry]
        return f"{' '.join(versions) or '…'} ({_MASKED_SIGNATURE})"
    return value


def _warning(outgoing: Outgoing) -> str:
    kind = next((value for name, value in outgoing.headers if name.lower() == "content-type"), "")
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
    """The catalogue's types that the patterns cover, in the order of the patterns."""
    known = catalogue.known_names(merchant_id)
    return list(
        dict.fromkeys(
            name for pattern in patterns for name in known if pattern_matches(pattern, name)
        )
    )


def _example_type(merchant_id: int, patterns: Sequence[str]) -> str:
    """The first type that the patterns cover; any type if those they covered are gone."""
    names = _types(merchant_id, patterns) or catalogue.known_names(merchant_id)
    return names[0]


def _example(merchant_id: int, event_type: str) -> tuple[str, Payload]:
    """The ID and payload of a type's example, as if it happened now."""
    found = catalogue.find(merchant_id, event_type)
    assert found is not None, "known a moment ago"
    example = catalogue.example_event(found)
    fields = {name: example.get(name) for name in rules.FIELDS}
    fields |= {"id": None, "occurred_at": None}
    (event,) = rules.clean_events(merchant_id, [fields], batch=False)
    return EXAMPLE_ID, Payload(event.head(EXAMPLE_ID, now()), event.data, event.previous)


def example_body(merchant_id: int, event_type: str) -> str:
    """The body that a webhook would get for the example of a known type, with its record, as JSON
    text."""
    return event_body(_example(merchant_id, event_type)[1], include_record=True)


def _newest(merchant_id: int, cleaned: Mapping[str, Any]) -> tuple[str, str, Payload] | None:
    """The type, ID and payload of the newest matching event that still has its payload."""
    event = table(Event).c
    names: Sequence[str | None] = [None]
    if "*" not in cleaned["events"]:
        names = _types(merchant_id, cleaned["events"])
    wants = _wants(cleaned)
    is_filtered = bool(cleaned["only_sources"] or cleaned["except_sources"])
    best: Any = None
    for name in names:
        # For each type a few steps down an index, however many events there are.
        newest = (
            sa.select(
                event.id,
                event.type,
                event.received_at,
                event.source_user_type,
                event.source_user_id,
            )
            .where(event.merchant_id == merchant_id, *([event.type == name] if name else []))
            .order_by(event.received_at.desc())
            .limit(_NEWEST)
            .subquery()
        )
        found = db.session.execute(
            sa.select(
                newest.c.type,
                newest.c.source_user_type,
                newest.c.source_user_id,
                newest.c.received_at,
                newest.c.id,
            )
            .join(
                EventPayload,
                (EventPayload.merchant_id == merchant_id) & (EventPayload.event_id == newest.c.id),
            )
            .order_by(newest.c.received_at.desc())
            .limit(_NEWEST if is_filtered else 1)
        )
        row = next((row for row in found if wants(*row[:3])), None)
        if row is not None and (best is None or row.received_at > best.received_at):
            best = row
    kept = None if best is None else db.session.get(EventPayload, (merchant_id, best.id))
    if kept is None:
        return None
    return best.type, best.id, Payload(kept.head, kept.data, kept.previous)
