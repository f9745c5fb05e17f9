"""The filters of a log page: read from its URL, shown again as they were typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Response, g, request, url_for
from flask_login import current_user

from portal.db.listing import clean_search
from portal.errors import FieldError, Invalid, NotFound
from portal.logs import filters, saved
from portal.models import Merchant, SavedFilter
from portal.people import accounts
from portal.web import rendering

Found = TypeVar("Found")
MAX_CHIP = 60
"""Characters of a value that its chip shows."""


LABELS = {
    "since": "From",
    "until": "To",
    "object_id": "Object ID",
    "webhook_id": "Webhook ID",
    "event_id": "Event ID",
    "request_id": "Request ID",
    "correlation_id": "Correlation ID",
    "source_user_type": "Source application",
    "source_user_id": "Source user",
    "test": "Tests",
    "text": "Record holds",
    "zone": "Zone",
}
"""How filters are called where that is more than their name in capitals."""


FLOOR = "floor"
"""The parameter by which a live page says where it ends."""


@dataclass(frozen=True)
class Chip:
    """A filter that is set: its name and value for people, and the page without it."""

    label: str
    value: str
    url: str


@dataclass(frozen=True)
class Preset:
    """A period that a page offers with one click."""

    text: str
    url: str
    is_current: bool


@dataclass
class LogFilters:
    """What the URL of a log page asks for.

    `typed` holds the filters that are set, as texts; `scope` is the merchant's ID, None for all;
    `address` makes the page's URL for some filters, `export` that of the whole log in a format.
    `is_live` says that new rows put themselves on top as they come, by `tail`, which takes the
    page's `next_cursor`: what is older than its last row is none of them. `other` is the page where
    they do not, or do.
    """

    typed: dict[str, str]
    zone: str
    scope: int | None
    address: Callable[[dict[str, Any]], str]
    export: Callable[[str], str]
    is_live: bool
    tail: Callable[[str | None], str]
    other: str
    errors: dict[str, list[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The page's address with its filters and without a cursor."""
        return self.address(self.typed)

    @property
    def chips(self) -> list[Chip]:
        """The filters that are set, each with the way to drop it."""
        return [
            Chip(
                LABELS.get(name, name.replace("_", " ").capitalize()),
                value[:MAX_CHIP],
                self.address({other: text for other, text in self.typed.items() if other != name}),
            )
            for name, value in self.typed.items()
        ]

    @property
    def presets(self) -> list[Preset]:
        """Any time, and the periods of portal.logs.filters.PRESETS."""
        period = ("since", "until", "zone")
        others = {name: text for name, text in self.typed.items() if name not in period}
        is_open = self.typed.get("until") is None
        chosen = self.typed.get("since")
        return [
            Preset("Any time", self.address(others), chosen is None and is_open),
            *(
                Preset(text, self.address(others | {"since": key}), chosen == key and is_open)
                for key, text in filters.PRESETS
            ),
        ]

    def find(self, read: Callable[[], Found]) -> Found | None:
        """What `read` finds; None when filters are wrong, and `errors` then says which."""
        if self.errors:
            return None
        try:
            return read()
        except Invalid as error:
            self.errors = error.by_field()
            return None

    @property
    def status(self) -> int:
        """The HTTP status of the page."""
        return 422 if self.errors else 200


def read(log: str, merchant: Merchant | None) -> LogFilters:
    """The filters of a log that this request asks for, `zone` and, on pages of all merchants,
    `merchant`."""
    endpoint, whose = (f"{log}.index", log) if merchant else (f"staff.{log}", f"all_{log}")
    known = [*filters.LOGS[log], "zone"] + ([] if merchant else ["merchant"])
    typed = {name: request.args[name].strip() for name in known if request.args.get(name)}
    typed = {name: text[: filters.MAX_TEXT + 1] for name, text in typed.items() if text}
    if not {"since", "until"} & typed.keys():
        typed.pop("zone", None)
    in_path: dict[str, Any] = {"slug": merchant.slug} if merchant else {}

    live = {"live": "1"}
    is_live = request.args.get("live") == live["live"]

    def address(values: dict[str, Any]) -> str:
        return url_for(endpoint, **in_path, **(values | live if is_live else values))

    asked = LogFilters(
        typed,
        typed.get("zone", "UTC"),
        merchant.id if merchant else None,
        address,
        lambda kind: url_for(f"exports.{whose}", **(in_path | typed | {"kind": kind})),
        is_live,
        lambda cursor: url_for(f"tail.{whose}", **(in_path | typed | {FLOOR: cursor})),
        url_for(endpoint, **(in_path | typed | ({} if is_live else live))),
    )
    if not merchant and "merchant" in typed:
        asked.find(lambda: _choose(asked))
    return asked


def asked_or_invalid(log: str, merchant: Merchant | None) -> LogFilters:
    """What `read` gives, for what has no form to show errors in. Raises Invalid."""
    asked = read(log, merchant)
    if asked.errors:
        raise Invalid(
            [FieldError(f"/{name}", text) for name, texts in asked.errors.items() for text in texts]
        )
    return asked


def of_audit_log() -> dict[str, Any]:
    """The filters of the audit log that the address asks for, as portal.audit.log takes them.

    Raises Invalid for what is no moment or zone.
    """
    chosen: dict[str, Any] = {
        name: clean_search(request.args.get(name, "")) for name in ("merchant", "actor", "action")
    }
    return chosen | filters.clean(("since", "until"), request.args, request.args.get("zone", ""))


def _choose(asked: LogFilters) -> None:
    try:
        asked.scope = accounts.get_merchant(asked.typed["merchant"]).id
    except NotFound:
        message = "There is no merchant with this slug."
        raise Invalid([FieldError("/merchant", message)]) from None


def address_of(slug: str, log: str, query: str) -> str:
    """A merchant's log page with the filters of a query string that may hold anything; without
    them where they are too long for an address."""
    page, query = url_for(f"{log}.index", slug=slug), quote(query, safe="=&%+*")
    return f"{page}?{query}" if 0 < len(query) <= saved.MAX_QUERY else page


def _saved_filters() -> Sequence[SavedFilter]:
    log = request.blueprint or ""
    if g.merchant is None or log not in filters.LOGS:
        return []
    return saved.saved_filters(current_user.id, g.merchant.id, log)


def asks_for_news() -> bool:
    """Whether the page asks only for what is new since it was made."""
    return rendering.wants_fragment() and "after" in request.args


def answer(template: str, fragment: str, asked: LogFilters, /, **context: Any) -> Response:
    """A log page, or the part of it that HTMX swaps; the address bar follows the filters."""
    response = rendering.render(
        template,
        fragment,
        asked.status,
        asked=asked,
        typed=asked.typed,
        errors=asked.errors,
        url=asked.url,
        saved_filters=_saved_filters(),
        is_staff_log=g.merchant is None,
        **context,
    )
    if rendering.wants_fragment():
        response.headers["HX-Push-Url"] = asked.url
    return response
