"""Recover: count what failed or is held, send it again or discard it, and watch that go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit.log import actor_of
from portal.clock import SECOND
from portal.errors import FieldError, Invalid
from portal.events import catalogue
from portal.logs import filters
from portal.models import Recovery
from portal.models.delivery import FAILED, HELD
from portal.models.recovery import ACTIONS, DISCARD, SEND
from portal.recovery import recovery, selection
from portal.recovery.selection import Selection
from portal.web import rendering
from portal.webhooks import setup

bp = Blueprint("recover", __name__, url_prefix="/m/<slug>/recover")

FILTERS = ("webhook_id", "state", "since", "until", "type", "error", "status")
NARROWING: tuple[str, ...] = ("type", "error", "status")
FIRST = {"state": FAILED, "since": "24h"}
"""What is asked for when nobody said anything."""


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """How much there is to recover, by filters, and the recoveries so far."""
    return _page(_typed(request.args) or dict(FIRST))


@bp.post("")
def start(slug: str) -> ResponseReturnValue:
    """Send again, or discard (`action`), what the filters take; and show how far that is."""
    typed = _typed(request.form)
    try:
        action = request.form.get("action")
        if action not in ACTIONS:
            raise Invalid([FieldError("/action", "Choose whether to send or to discard.")])
        wanted = _wanted(action, typed)
    except Invalid as error:
        return _page(typed, error)
    started, _ = recovery.start(g.merchant.id, wanted, actor_of(current_user))
    return _to(started)


@bp.get("/<recovery_id>")
def show(slug: str, recovery_id: str) -> ResponseReturnValue:
    """One recovery and how far it is."""
    found = recovery.find(g.merchant.id, recovery_id)
    response = rendering.render(
        "recover/show.html", "recover/_progress.html", recovery=found, names=_names()
    )
    if not found.is_open:
        # The part that asks again and again gives way to one that does not.
        response.headers["HX-Reswap"] = "outerHTML"
    return response


@bp.post("/<recovery_id>/pause")
def pause(slug: str, recovery_id: str) -> ResponseReturnValue:
    """Stop it after its current batch."""
    return _changed(recovery_id, recovery.pause)


@bp.post("/<recovery_id>/resume")
def resume(slug: str, recovery_id: str) -> ResponseReturnValue:
    """Go on with it."""
    return _changed(recovery_id, recovery.resume)


@bp.post("/<recovery_id>/cancel")
def cancel(slug: str, recovery_id: str) -> ResponseReturnValue:
    """End it; the rest stays as it is."""
    return _changed(recovery_id, recovery.cancel)


def _changed(recovery_id: str, change: Callable[[int, str, str], Recovery]) -> ResponseReturnValue:
    return _to(change(g.merchant.id, recovery_id, actor_of(current_user)))


def _to(shown: Recovery) -> ResponseReturnValue:
    return redirect(url_for("recover.show", slug=g.merchant.slug, recovery_id=shown.id), 303)


def _typed(source: Mapping[str, str]) -> dict[str, str]:
    typed = {name: source[name].strip() for name in (*FILTERS, "zone") if source.get(name)}
    return {name: text[: filters.MAX_TEXT + 1] for name, text in typed.items() if text}


def _wanted(action: str, typed: Mapping[str, str]) -> Selection:
    """What filters as they were typed take. Raises Invalid."""
    values = filters.clean(FILTERS, typed, typed.get("zone", "UTC"))
    narrowed = {name: str(values[name]) for name in NARROWING if values.get(name, "*") != "*"}
    return Selection(
        action,
        (values.get("state", FAILED),),
        values.get("webhook_id"),
        values.get("since"),
        values.get("before"),
        narrowed,
    )


def _page(typed: dict[str, str], error: Invalid | None = None) -> Response:
    webhooks = setup.list_webhooks(g.merchant.id)
    errors = error.by_field() if error else {}
    counts: dict[str, selection.Count] = {}
    since = None
    held = typed.get("state") == HELD
    if not errors and typed.get("webhook_id", "") not in ["", *(one.id for one in webhooks)]:
        errors = {"webhook_id": ["There is no such webhook; choose one."]}
    if not errors:
        try:
            wanted = _wanted(DISCARD if held else SEND, typed)
            since = wanted.since
            counts[wanted.action] = selection.count(g.merchant.id, wanted)
            if held:
                counts[SEND] = selection.count(g.merchant.id, _wanted(SEND, _whole(typed)))
        except Invalid as wrong:
            errors = wrong.by_field()
    # "24h" is the moment that was counted from.
    exact = typed if since is None else typed | {"since": f"{since / SECOND:.6f}"}
    response = rendering.render(
        "recover/index.html",
        "recover/_wanted.html",
        422 if errors else 200,
        typed=typed,
        errors=errors,
        counts=counts,
        choices=webhooks,
        recoveries=recovery.latest(g.merchant.id),
        names=_names(),
        event_types=sorted(catalogue.known_names(g.merchant.id)),
        asked={SEND: _whole(typed) if held else exact, DISCARD: exact},
        off=_disabled(webhooks, typed),
    )
    if rendering.wants_fragment():
        response.headers["HX-Push-Url"] = _address(typed)
    return response


def _address(typed: dict[str, Any]) -> str:
    return url_for("recover.index", slug=g.merchant.slug, **typed)


def _whole(typed: dict[str, str]) -> dict[str, str]:
    """The filters without what narrows: a webhook sends all that it holds."""
    return {name: text for name, text in typed.items() if name in ("state", "webhook_id")}


def _disabled(webhooks: list[Any], typed: dict[str, str]) -> list[Any]:
    chosen = typed.get("webhook_id")
    return [one for one in webhooks if not one.enabled and chosen in (None, one.id)]


def _names() -> dict[str, str]:
    return {one.id: one.description or one.url for one in setup.list_webhooks(g.merchant.id)}
