"""The first page of a merchant, and where a signed-in user lands."""

from __future__ import annotations

import shlex

from flask import Blueprint, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.counts import overview
from portal.counts.statistics import SPANS, Span
from portal.web import rendering

bp = Blueprint("home", __name__)


@bp.get("/")
def root() -> ResponseReturnValue:
    """Staff see all merchants, a member the first of theirs; others are told whom to ask."""
    if current_user.staff_role:
        return redirect(url_for("staff.merchants"), 303)
    merchants = sorted(
        (membership.merchant for membership in current_user.memberships),
        key=lambda merchant: merchant.name.casefold(),
    )
    if not merchants:
        return rendering.render("home/nowhere.html")
    return redirect(url_for("home.index", slug=merchants[0].slug), 303)


@bp.get("/m/<slug>/")
def index(slug: str) -> ResponseReturnValue:
    """What needs attention, how it went in `?span=`, and the first steps where nothing is there."""
    span = span_asked()
    return rendering.render(
        "home/index.html",
        "home/_live.html",
        overview=overview.overview(g.merchant.id, span),
        spans=SPANS,
        first_event_command=_first_event_command(),
    )


@bp.post("/m/<slug>/notices/<int(max=2147483647):notice_id>/dismiss")
def dismiss_notice(slug: str, notice_id: int) -> ResponseReturnValue:
    """Take a notice off the page; HTMX removes it in place."""
    overview.dismiss_notice(g.merchant.id, notice_id)
    if rendering.wants_fragment():
        return ""
    return redirect(url_for("home.index", slug=slug), 303)


def span_asked() -> Span:
    """The period that the address asks for; 24 hours where it asks for none that there is."""
    return SPANS.get(request.args.get("span", ""), SPANS["24h"])


def _first_event_command() -> str:
    address = current_app.config["PORTAL"].public_url + "/api/v1/events"
    return "\n".join(
        (
            f"curl {shlex.quote(address)} \\",
            "  -H 'Authorization: Bearer whp_…' \\",
            "  -H 'Content-Type: application/json' \\",
            """  -d '{"type": "order.created", "object_id": "1000", "data": {"total": "99.50"}}'""",
        )
    )
