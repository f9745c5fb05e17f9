"""The filters of a log page: read from its URL, shown again as they were typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Response, g, request, url_for

from portal import rendering
from portal.errors import FieldError, Invalid
from portal.extensions import db
from portal.logs import filters
from portal.models import Merchant

Found = TypeVar("Found")
MAX_SHOWN = 500
"""Characters of a wrong value that the page shows again."""


@dataclass
class Asked:
    """What the URL of a log page asks for.

    `typed` holds the filters that are set, as texts; `scope` is the merchant's ID, None for all;
    `url` is the page's address with its filters and without a cursor.
    """

    typed: dict[str, str]
    zone: str
    scope: int | None
    url: str
    errors: dict[str, list[str]] = field(default_factory=dict)

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


def read(endpoint: str, merchant: Merchant | None, names: Iterable[str]) -> Asked:
    """The filters `names`, `zone` and, on pages of all merchants, `merchant` of this request."""
    known = [*names, "zone"] + ([] if merchant else ["merchant"])
    typed = {name: request.args[name].strip() for name in known if request.args.get(name)}
    typed = {name: text[: filters.MAX_TEXT + 1] for name, text in typed.items() if text}
    if not {"since", "until"} & typed.keys():
        typed.pop("zone", None)
    place: dict[str, Any] = dict(typed)
    if merchant:
        place["slug"] = merchant.slug
    asked = Asked(
        typed, typed.get("zone", "UTC"), merchant.id if merchant else None,
        url_for(endpoint, **place),
    )
    if not merchant and "merchant" in typed:
        asked.find(lambda: _choose(asked))
    return asked


def _choose(asked: Asked) -> None:
    slug = asked.typed["merchant"]
    chosen = None
    if slug.isprintable():
        chosen = db.session.scalar(db.select(Merchant).filter_by(slug=slug))
    if chosen is None:
        raise Invalid([FieldError("/merchant", "There is no merchant with this slug.")])
    asked.scope = chosen.id


def is_live() -> bool:
    """Whether the page asks only for what is new since it was made."""
    return rendering.wants_fragment() and "after" in request.args


def answer(template: str, fragment: str, asked: Asked, /, **context: Any) -> Response:
    """A log page, or the part of it that HTMX swaps; the address bar follows the filters."""
    response = rendering.render(
        template, fragment, asked.status, asked=asked, typed=asked.typed, errors=asked.errors,
        url=asked.url, is_staff_log=g.merchant is None, **context,
    )
    if rendering.wants_fragment():
        response.headers["HX-Push-Url"] = asked.url
    return response
