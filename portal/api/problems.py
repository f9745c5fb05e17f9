"""Errors as application/problem+json (RFC 9457), whatever went wrong and wherever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import Response, current_app, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from portal.api.blueprint import bp
from portal.db.session import db
from portal.errors import FieldError, PortalError, StorageFull, TooManyRequests, Unavailable
from portal.journal import request_ids
from portal.strict_json import dump
from portal.upkeep import refusals

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5

KINDS: dict[int, tuple[str, str, str]] = {
    400: (
        "malformed",
        "The request cannot be read",
        "The body is not JSON that the portal takes; the detail says where.",
    ),
    401: (
        "unauthorized",
        "Not signed in",
        "Send the header Authorization: Bearer whp_… with a key that is not revoked.",
    ),
    403: ("forbidden", "Not allowed", "The key is known and may not do this."),
    404: ("not-found", "Not found", "There is nothing at this address for this key."),
    405: ("method-not-allowed", "Method not allowed", "This address does not take this method."),
    409: ("conflict", "Conflict", "The object is not in the state that the request expects."),
    412: (
        "precondition-failed",
        "It has changed meanwhile",
        "If-Match names another state of the object than the one it is in.",
    ),
    413: ("too-large", "The body is too large", "Send less at once."),
    415: (
        "unsupported-media-type",
        "Wrong kind of content",
        "Send application/json in UTF-8, without compression.",
    ),
    422: ("invalid", "Some fields are wrong", "The errors name each field and its remedy."),
    429: ("too-many-requests", "Too many requests", "Wait as long as Retry-After says."),
    500: (
        "internal",
        "The portal failed",
        "The portal failed at this, and the failure is in its log. Try again in a moment.",
    ),
    503: (
        "unavailable",
        "The portal cannot store this right now",
        "Nothing was stored. Try again as Retry-After says.",
    ),
}
"""Status → the name of its kind, its title, and what it means in general."""
SPECIAL: tuple[tuple[int, tuple[str, str, str]], ...] = (
    (
        StorageFull.status,
        (
            StorageFull.kind,
            StorageFull.title,
            "The merchant has stored what it may. Nothing was stored; try again as "
            "Retry-After says, "
            "and keep logs for fewer days or ask the operator for more room.",
        ),
    ),
)
"""The same of kinds that share a status with others."""


def problem(
    status: int,
    detail: str = "",
    errors: Sequence[FieldError] = (),
    *,
    title: str = "",
    headers: Mapping[str, str] | None = None,
    passes: bool = True,
    name: str = "",
) -> Response:
    """The answer for a failure. What is not given is said in the words of its status. `passes` says
    whether it is worth trying again in a few seconds, where the status does not say that; `name`
    is of a kind beside that of its status (SPECIAL)."""
    kind, usual_title, usual_detail = KINDS.get(status, ("other", "", ""))
    content: dict[str, object] = {
        "type": f"{current_app.config['PORTAL'].public_url}/api/docs#{name or kind}",
        "title": title or usual_title,
        "status": status,
        "detail": detail or usual_detail,
    }
    if status != 404:
        # Another merchant's object answers in the same bytes as one that does not exist.
        content["request_id"] = request_ids.current()
    if errors:
        content["errors"] = [
            {"pointer": error.pointer, "detail": error.message} for error in errors
        ]
    response = Response(dump(content), status, content_type=MEDIA_TYPE)
    response.headers.update(headers or {})
    if status in (429, 503) and passes:
        response.headers.setdefault("Retry-After", str(RETRY_SECONDS))
    if status in (401, 403):
        response.headers["WWW-Authenticate"] = _challenge(status)
    if status == 415:
        # RFC 9110, 12.5.3: tells that a compressed body was the reason.
        response.headers["Accept-Encoding"] = "identity"
    return response


def _challenge(status: int) -> str:
    # RFC 6750, 3: no error code where no key was sent.
    challenge = 'Bearer realm="Webhook Portal"'
    if status == 403:
        return f'{challenge}, error="insufficient_scope", scope="write"'
    if request.headers.get("Authorization"):
        return f'{challenge}, error="invalid_token"'
    return challenge


@bp.errorhandler(PortalError)
def refused(error: PortalError) -> Response:
    """What a stage function refused, with its own sentence and fields."""
    headers, passes = {}, True
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unavailable):
        refusals.note(error)
        passes = error.passes
    return problem(
        error.status,
        error.detail,
        error.errors,
        title=error.title,
        headers=headers,
        passes=passes,
        name=error.kind,
    )


@bp.errorhandler(SQLAlchemyError)
def database_failed(error: SQLAlchemyError) -> Response:
    """A database that cannot serve is a 503; everything else is a defect."""
    db.session.rollback()
    if isinstance(error, refusals.DELETED):
        return refused(refusals.deleted())
    refusal = refusals.of(error)
    if refusal is None:
        raise error
    return refused(refusal)


@bp.errorhandler(HTTPException)
def failed(error: HTTPException) -> Response:
    """Any other status; Flask wraps a defect as a 500 after logging it."""
    status = error.code or 500
    if isinstance(error, InternalServerError):
        # The failed transaction may still be open.
        db.session.rollback()
    if status in KINDS:
        detail = ""
        headers = {}
        if isinstance(error, MethodNotAllowed):
            methods = ", ".join(sorted(error.valid_methods or ()))
            detail = f"This address does not take {request.method[:20]}; it takes {methods}."
            headers["Allow"] = methods
        return problem(status, detail, headers=headers)
    return problem(status, error.description or "", title=error.name)


@bp.before_app_request
def refuse_unknown_addresses() -> Response | None:
    """No view runs for an address without a route, so no blueprint would answer for it."""
    error = request.routing_exception
    if error is None or (error.code or 0) < 400 or not request.path.startswith("/api/"):
        return None
    return failed(error)
