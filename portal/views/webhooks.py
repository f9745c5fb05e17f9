"""Webhooks: list, form with its live preview, and one webhook with all that can be done to it."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit import log
from portal.audit.log import actor_of
from portal.characters import whole_number
from portal.clock import now
from portal.counts import overview, statistics
from portal.db.listing import clean_search
from portal.delivery import actions, health
from portal.diagnosis import inspector, reports
from portal.errors import Conflict, FieldError, Invalid
from portal.events import catalogue
from portal.models import Webhook
from portal.recovery import recovery
from portal.views import auth_form, event_chooser, webhook_form
from portal.views.home import span_asked
from portal.views.webhook_form import WebhookForm
from portal.web import rendering
from portal.webhooks import checking, previews, recipes, setup
from portal.webhooks.fields import columns

bp = Blueprint("webhooks", __name__, url_prefix="/m/<slug>/webhooks")


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """Every webhook of the merchant and how it does; `?sort=` and `?search=` order and narrow."""
    sort, search = request.args.get("sort", ""), clean_search(request.args.get("search", ""))
    sort = sort if sort in overview.SORTS else overview.NEWEST
    count = len(setup.list_webhooks(g.merchant.id))
    return rendering.render(
        "webhooks/index.html",
        "webhooks/_rows.html",
        rows=overview.webhook_rows(g.merchant.id, sort, search),
        count=count,
        sort=sort,
        search=search,
        inspector=inspector.find(g.merchant.id),
    )


@bp.get("/new")
def new(slug: str) -> ResponseReturnValue:
    """What can be set up; or its form: by `?recipe=`, as a copy (`?from=`), for an `?event=`, or
    for the merchant's inspector (`?to=inspector`)."""
    recipe, original = request.args.get("recipe"), request.args.get("from")
    events = request.args.getlist("event")[:1]
    if original is not None:
        copied = webhook_form.copy_of(_get(original), g.merchant)
        return _form(copied, is_copy=True)
    if request.args.get("to") == "inspector":
        own = inspector.find(g.merchant.id)
        if own is None:
            return redirect(url_for("inspector.show", slug=slug), 303)
        typed = webhook_form.to_inspector(webhook_form.blank(g.merchant), inspector.url_of(own))
        typed["events"] = events or ["*"]
        return _form(typed)
    if recipe is None and not events:
        return rendering.render("webhooks/recipes.html", groups=recipes.groups())
    if recipe in recipes.all_recipes():
        typed = webhook_form.from_recipe(g.merchant, recipes.all_recipes()[recipe])
    else:
        typed = webhook_form.blank(g.merchant)
    typed["events"] = events or typed["events"]
    return _form(typed, is_previewed=bool(typed["events"]))


@bp.post("")
def create(slug: str) -> ResponseReturnValue:
    """Store a new webhook; or change the form's rows, or show its preview."""
    typed = webhook_form.read(request.form, g.merchant)
    if (changed := _changed_form(typed)) is not None:
        return changed
    webhook_id = webhook_form.token_id(g.merchant, typed.token)
    repeated = webhook_id is not None and _find(webhook_id) is not None
    fields = webhook_form.fields(typed, g.merchant)
    try:
        webhook = setup.create_webhook(
            g.merchant.id, fields, actor_of(current_user), webhook_id=webhook_id
        )
    except (Invalid, Conflict) as error:
        return _form(typed, error=error)
    if repeated:
        flash("This form had been saved before as this webhook; nothing was saved again.", "info")
    else:
        flash(f"The webhook is created. {_matched(webhook)}")
    return _to(webhook)


@bp.post("/preview")
def preview(slug: str) -> ResponseReturnValue:
    """The request that the form, as it is now, would make."""
    typed = webhook_form.read(request.form, g.merchant)
    webhook_id = request.form.get("webhook_id")
    webhook = setup.get_webhook(g.merchant.id, webhook_id) if webhook_id else None
    return _form(typed, webhook, part="webhooks/_preview_part.html")


@bp.post("/check-url")
def check_url(slug: str) -> ResponseReturnValue:
    """What is wrong with the URL that was typed, for the place under its field."""
    typed = webhook_form.read(request.form, g.merchant)
    url = typed["url"].strip()
    problem = checking.url_problem(url, g.merchant.id) if url else None
    error = Invalid([FieldError("/url", problem)]) if problem else None
    return _form(
        typed, error=error, status=200, part="webhooks/_url_notes.html", is_previewed=False
    )


@bp.get("/<webhook_id>")
def show(slug: str, webhook_id: str) -> ResponseReturnValue:
    """One webhook: how it has been in `?span=`, settings, signing secret, trying it out."""
    return _show(_get(webhook_id), "webhooks/_activity.html")


@bp.get("/<webhook_id>/edit")
def edit(slug: str, webhook_id: str) -> ResponseReturnValue:
    """The form of a stored webhook."""
    webhook = _get(webhook_id)
    return _form(webhook_form.stored(webhook), webhook)


@bp.post("/<webhook_id>/edit")
def update(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Save the form; when another's edit came first, both are shown (409)."""
    webhook = _get(webhook_id)
    typed = webhook_form.read(request.form, g.merchant)
    if (changed := _changed_form(typed, webhook)) is not None:
        return changed
    fields = webhook_form.fields(typed, g.merchant)
    try:
        webhook = setup.update_webhook(
            g.merchant.id, webhook_id, fields, actor_of(current_user), typed.version or 0
        )
    except Invalid as error:
        return _form(typed, _get(webhook_id), error=error)
    except Conflict as error:
        webhook = _get(webhook_id)
        theirs = webhook_form.stored(webhook)
        typed.version = theirs.version
        differences = webhook_form.differences(theirs, typed)
        return _form(typed, webhook, error=error, differences=differences)
    flash(f"The webhook is saved. {_matched(webhook)}")
    return _to(webhook)


@bp.post("/<webhook_id>/delete")
def delete(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Delete it; what it was owed is discarded."""
    webhook = _get(webhook_id)
    name = webhook.description or webhook.url
    setup.delete(g.merchant.id, webhook_id, actor_of(current_user))
    flash(f"The webhook “{rendering.visible(name)}” is deleted. Its log stays.")
    return redirect(url_for("webhooks.index", slug=slug), 303)


@bp.post("/<webhook_id>/enable")
def enable(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Send again, beginning with what was held."""
    webhook = setup.enable(g.merchant.id, webhook_id, actor_of(current_user))
    flash("The webhook is enabled; what was held is being sent.")
    return _to(webhook)


@bp.post("/<webhook_id>/disable")
def disable(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Stop sending; what comes meanwhile is not sent to it."""
    reason = request.form.get("reason", "").strip() or f"Disabled by {current_user.email}."
    webhook = setup.disable(
        g.merchant.id, webhook_id, rendering.visible(reason), actor_of(current_user)
    )
    flash(
        "The webhook is disabled. What it is owed is held until you enable it; events that come "
        "meanwhile are not sent to it, then or later."
    )
    return _to(webhook)


@bp.post("/<webhook_id>/test")
def test(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Send the example of an event type now and show the answer in place."""
    webhook = _get(webhook_id)
    event_type = request.form.get("type", "")
    if event_type not in setup.types_of(webhook):
        raise Invalid([FieldError("/type", "Choose one of the webhook's event types.")])
    attempt = actions.send_test(g.merchant.id, webhook_id, event_type, actor_of(current_user))
    answer = setup.payload_of(attempt)
    response = _show(
        _get(webhook_id),
        "webhooks/_test_result.html",
        attempt=attempt,
        answer=answer,
        received=reports.answer_body(answer) if answer else None,
        tested=event_type,
    )
    response.headers["HX-Trigger"] = _refresh("#activity")
    return response


@bp.post("/<webhook_id>/secret")
def reveal_secret(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Show the signing secret in the answer to this very request; that is noted."""
    secret = setup.reveal_secret(g.merchant.id, webhook_id, actor_of(current_user))
    return _show(_get(webhook_id), "webhooks/_secret.html", secret=secret)


@bp.post("/<webhook_id>/rotate-secret")
def rotate_secret(slug: str, webhook_id: str) -> ResponseReturnValue:
    """Replace the signing secret; both sign for the hours given."""
    text = request.form.get("overlap_hours", "").strip()
    hours = whole_number(text, digits=5)
    try:
        webhook = setup.rotate_secret(
            g.merchant.id, webhook_id, actor_of(current_user), text if hours is None else hours
        )
    except Invalid as error:
        return _show(_get(webhook_id), status=422, rotate_errors=error.by_field(), typed_hours=text)
    flash("The webhook has a new signing secret. Reveal it and give it to the receiver.")
    return _to(webhook)


def _get(webhook_id: str) -> Webhook:
    return setup.get_webhook(g.merchant.id, webhook_id)


def _find(webhook_id: str) -> Webhook | None:
    return next(
        (found for found in setup.list_webhooks(g.merchant.id) if found.id == webhook_id), None
    )


def _to(webhook: Webhook) -> ResponseReturnValue:
    return redirect(url_for("webhooks.show", slug=g.merchant.slug, webhook_id=webhook.id), 303)


def _refresh(target: str) -> str:
    """An HX-Trigger header that has another part of the page load itself again."""
    return json.dumps({"refresh": {"target": target}})


def _matched(webhook: Webhook) -> str:
    count = previews.matched_last_week(webhook.merchant_id, columns(webhook))
    events = "1 event" if count == 1 else f"{rendering.amount(count)} events"
    return f"{events} of the last 7 days would have matched."


def _show(
    webhook: Webhook, fragment: str | None = None, status: int = 200, **context: Any
) -> Response:
    own = inspector.find(webhook.merchant_id)
    lost = webhook.unreadable(now())
    return rendering.render(
        "webhooks/show.html",
        fragment,
        status,
        webhook=webhook,
        unreadable=health.unreadable_sentence(lost) if lost else "",
        to_inspector=own is not None and inspector.sends_to_inspector(webhook, own),
        attempts=setup.recent_attempts(webhook),
        types=setup.types_of(webhook),
        held=recovery.count_held(webhook),
        facts=webhook_form.facts(webhook),
        recoveries=recovery.unfinished(webhook.merchant_id, webhook.id),
        moment=now(),
        history=statistics.history(webhook.merchant_id, span_asked(), webhook.id),
        spans=statistics.SPANS,
        changes=log.about(webhook.merchant_id, webhook.id),
        **context,
    )


def _changed_form(typed: WebhookForm, webhook: Webhook | None = None) -> Response | None:
    """The form after one of its buttons other than "save" was pressed; None for saving."""
    action = request.form.get("action", "")
    if action == "preview":
        return _form(typed, webhook)
    if action == "inspector":
        own = inspector.prepare(g.merchant.id, actor_of(current_user))
        return _form(webhook_form.to_inspector(typed, inspector.url_of(own)), webhook)
    if action == "search_events":
        return _form(typed, webhook, part="webhooks/_triggers.html", is_previewed=False)
    kind = webhook_form.change_rows(typed, action)
    if kind is None:
        return None
    response = _form(typed, webhook, part=f"webhooks/_{kind}.html", is_previewed=False)
    response.headers["HX-Trigger"] = _refresh("#preview")
    return response


def _form(
    typed: WebhookForm,
    webhook: Webhook | None = None,
    *,
    error: Invalid | Conflict | None = None,
    status: int | None = None,
    part: str | None = None,
    is_previewed: bool = True,
    differences: list[tuple[str, str, str]] | None = None,
    is_copy: bool = False,
) -> Response:
    """The form, or the `part` of it where HTMX asks for one; its status is that of the error,
    where no other is given."""
    fields = webhook_form.fields(typed, g.merchant)
    errors = webhook_form.by_input(error.errors if error else [])
    return rendering.render(
        "webhooks/form.html",
        part,
        status or (error.status if error else 200),
        typed=webhook_form.masked(typed),
        webhook=webhook,
        errors=errors,
        error=error,
        preview=checking.preview(g.merchant.id, fields, webhook) if is_previewed else None,
        differences=differences,
        hint_of=webhook_form.hint_of,
        widget_of=webhook_form.widget_of,
        auth_types=auth_form.TYPES,
        client_auths=auth_form.CLIENT_AUTH,
        groups=event_chooser.groups(g.merchant.id, typed),
        is_copy=is_copy,
        open_parts=typed.open_parts | webhook_form.parts_of(errors),
        together=catalogue.fires_together(typed["events"]),
        recipe=recipes.all_recipes().get(typed.recipe),
    )
