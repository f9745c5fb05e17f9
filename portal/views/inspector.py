"""The inspector's page: what a merchant's own test target gets, as it comes."""

from __future__ import annotations

from flask import Blueprint, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit.log import actor_of
from portal.diagnosis import inspector, signatures
from portal.errors import NotFound
from portal.web import rendering

bp = Blueprint("inspector", __name__, url_prefix="/m/<slug>/inspector")


@bp.get("")
def show(slug: str) -> ResponseReturnValue:
    """What came in, and one request of it (`?request=`, default the newest) with its signature
    checked. A part that is asked for with `after=` the newest it shows comes when there is more.
    """
    own = inspector.find(g.merchant.id)
    requests = inspector.newest(own) if own else []
    newest = requests[0].id if requests else ""
    if rendering.wants_fragment() and request.args.get("after") == newest:
        return "", 204
    wanted = request.args.get("request")
    chosen = next((one for one in requests if wanted in (None, one.id)), None)
    if wanted is not None and chosen is None and not rendering.wants_fragment():
        raise NotFound("There is no such request, or its day is over.")
    return rendering.render(
        "inspector/show.html",
        "inspector/_requests.html",
        inspector=own,
        requests=requests,
        newest=newest,
        wanted=wanted,
        url=inspector.url_of(own) if own else None,
        shown=inspector.inspect(own, chosen) if own and chosen else None,
        webhooks=inspector.webhooks_to(own) if own else [],
        answers=[(key, answer.text) for key, answer in inspector.ANSWERS.items()],
        signature_headers=signatures.SIGNATURE_HEADERS,
    )


@bp.post("")
def create(slug: str) -> ResponseReturnValue:
    """Make the inspector where there is none, and set up a webhook for it."""
    inspector.prepare(g.merchant.id, actor_of(current_user))
    return redirect(url_for("webhooks.new", slug=slug, to="inspector"), 303)


@bp.post("/answer")
def choose_answer(slug: str) -> ResponseReturnValue:
    """Choose what it answers from now on."""
    inspector.choose_answer(g.merchant.id, request.form.get("answer", ""), actor_of(current_user))
    flash("The inspector answers so from now on.")
    return redirect(url_for("inspector.show", slug=slug), 303)


@bp.post("/remove")
def remove(slug: str) -> ResponseReturnValue:
    """Delete it with all it got."""
    inspector.remove(g.merchant.id, actor_of(current_user))
    flash("The inspector is removed, and its address does not answer any more.")
    return redirect(url_for("inspector.show", slug=slug), 303)
