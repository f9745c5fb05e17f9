"""Records: what happened to order 1042."""

from __future__ import annotations

from flask import Blueprint, g, redirect, request, url_for
from flask.typing import ResponseReturnValue

from portal.logs import records
from portal.web import rendering

bp = Blueprint("records", __name__, url_prefix="/m/<slug>/records")


@bp.get("/<object_type>")
@bp.get("/<object_type>/<path:object_id>")
def show(slug: str, object_type: str, object_id: str = "") -> ResponseReturnValue:
    """Every event of a record, what each changed, and where it was sent; an ID that makes no path
    stands in the query (portal.web.rendering.record_url)."""
    object_id = object_id or request.args.get("id", "")
    if not object_id:
        return redirect(url_for("events.index", slug=slug, object_type=object_type), 303)
    return rendering.render(
        "records/show.html",
        object_type=object_type,
        object_id=object_id,
        url=rendering.record_url(slug, object_type, object_id),
        page=records.story(g.merchant.id, object_type, object_id, request.args.get("cursor")),
    )
