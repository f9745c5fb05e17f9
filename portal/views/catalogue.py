"""The event catalogue: each type with its schema and example, and the merchant's own."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, abort, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit.log import actor_of
from portal.errors import Conflict, FieldError, Invalid, Malformed
from portal.events import catalogue, schema_table
from portal.strict_json import parse_record
from portal.web import rendering
from portal.webhooks import previews, setup

bp = Blueprint("catalogue", __name__, url_prefix="/m/<slug>/event-types")


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """All types in their groups; `?q=` keeps those whose name or description holds the text."""
    return _index(slug)


def _index(
    slug: str,
    typed: dict[str, str] | None = None,
    errors: dict[str, list[str]] | None = None,
    status: int = 200,
) -> ResponseReturnValue:
    wanted = request.args.get("q", "")[:100]
    return rendering.render(
        "catalogue/index.html",
        "catalogue/_rows.html",
        status=status,
        groups=catalogue.groups(g.merchant.id, wanted),
        wanted=wanted,
        typed=typed or {},
        errors=errors or {},
    )


@bp.get("/<name>")
def show(slug: str, name: str) -> ResponseReturnValue:
    """One type: what it means, its schema, the example as it is sent, who is triggered by it."""
    event_type = catalogue.find(g.merchant.id, name)
    if event_type is None:
        abort(404)
    return rendering.render(
        "catalogue/show.html",
        event_type=event_type,
        webhooks=setup.triggered_by(g.merchant.id, name),
        properties=schema_table.properties(event_type.schema),
        sent=previews.example_body(g.merchant.id, name),
        example=catalogue.example_text(event_type),
        schema=json.dumps(event_type.schema, ensure_ascii=False) if event_type.schema else None,
    )


@bp.post("")
def create(slug: str) -> ResponseReturnValue:
    """Add a type of the merchant's own."""
    typed = {field: request.form.get(field, "") for field in catalogue.OWN_FIELDS}
    try:
        added = catalogue.add_type(g.merchant.id, _fields(typed), actor_of(current_user))
    except (Invalid, Conflict) as error:
        return _index(slug, typed, error.by_field() or {"name": [error.detail]}, error.status)
    flash(f"The event type {added.name} is in your catalogue.", "good")
    return redirect(url_for("catalogue.show", slug=slug, name=added.name), 303)


def _fields(typed: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": typed["name"].strip(),
        "description": typed["description"].strip(),
    }
    for field in ("schema", "example"):
        if typed[field].strip():
            try:
                fields[field] = parse_record(typed[field].encode("utf-8", "replace"))
            except Malformed as error:
                message = error.detail.replace("The body", field)
                raise Invalid([FieldError(f"/{field}", message)]) from None
    return fields


@bp.post("/<name>/delete")
def delete(slug: str, name: str) -> ResponseReturnValue:
    """Delete a type of the merchant's own."""
    try:
        catalogue.delete_type(g.merchant.id, name, actor_of(current_user))
    except Conflict as error:
        flash(error.detail, "bad")
        return redirect(url_for("catalogue.show", slug=slug, name=name), 303)
    flash(f"The event type {name} is deleted.", "good")
    return redirect(url_for("catalogue.index", slug=slug), 303)
