"""The page of a share link: one attempt, for someone without an account."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from portal.diagnosis import reports, shares
from portal.views.attempts import EXPLAINED
from portal.web import rendering
from portal.web.extensions import limit_by_sender

bp = Blueprint("shared", __name__, url_prefix="/shared")

LOOKS_PER_ADDRESS = "60 per minute"


@bp.get("/<token>")
@limit_by_sender(LOOKS_PER_ADDRESS)
def show(token: str) -> ResponseReturnValue:
    """The attempt, its secrets masked, and nothing else of the merchant."""
    share, detail = shares.shared_attempt(token)
    response = rendering.render(
        "shared/show.html",
        share=share,
        report=reports.report(detail, shared=True),
        shared=True,
        **EXPLAINED,
    )
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    # The address is the key: no other site may learn it.
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
