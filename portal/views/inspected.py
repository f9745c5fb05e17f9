"""Where the portal's inspectors are reached: any request by anyone who knows the address."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from portal.diagnosis import inspector
from portal.diagnosis.inspector import Received
from portal.errors import PortalError
from portal.journal import security_log
from portal.models.inspector import TOKEN_LETTERS
from portal.web.extensions import csrf, limit_by_sender

bp = Blueprint("inspected", __name__)
# What comes here comes from webhooks, not from forms, and changes nothing of the merchant's.
csrf.exempt(bp)

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
REQUESTS_PER_SENDER = "120 per minute"


def _key_of(sender: str) -> str:
    # What cannot be a token is none's: anybody may send any text, and each is kept for a minute.
    token = (request.view_args or {})["token"]
    return f"{sender} {token if len(token) == TOKEN_LETTERS else ''}"


@bp.route("/inspect/<token>", methods=METHODS)
@limit_by_sender(REQUESTS_PER_SENDER, _key_of)
def receive(token: str) -> ResponseReturnValue:
    """Record the request and answer as the merchant chose."""
    request.max_content_length = inspector.MAX_BODY
    query = request.query_string.decode("latin-1")
    answer = inspector.receive(
        token,
        Received(
            request.environ["REQUEST_METHOD"],
            request.path + (f"?{query}" if query else ""),
            list(request.headers),
            request.get_data(cache=False),
        ),
    )
    headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
    return {"inspector": answer.text}, answer.status, headers


@bp.errorhandler(PortalError)
def refused(error: PortalError) -> ResponseReturnValue:
    """No such inspector, or the database is busy, for a program."""
    return {"error": error.detail}, error.status


@bp.errorhandler(HTTPException)
def failed(error: HTTPException) -> ResponseReturnValue:
    """Too large, or too many, for a program."""
    sentences = {
        413: f"The inspector takes bodies up to {inspector.MAX_BODY // 1024} KiB.",
        429: f"The inspector takes {REQUESTS_PER_SENDER}.",
    }
    headers = {}
    if error.code == 429:
        headers["Retry-After"] = "10"
        security_log.note("limit_reached")
    return {"error": sentences.get(error.code or 500, error.name)}, error.code or 500, headers
