"""Error pages: what went wrong and what to do, as a page or as a message in the page.

Requests under /api/ have handlers of their own (portal.api).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flask import Flask, Response, current_app, g, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import CSRFError, generate_csrf
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError

from portal.db.session import db
from portal.errors import Conflict, PortalError, TooManyRequests, Unavailable
from portal.journal import request_ids, security_log
from portal.models.webhook import MASK
from portal.upkeep import refusals
from portal.web import access, rendering
from portal.web.extensions import login
from portal.web.hosts import WrongHost
from portal.web.protection import FILES

RETRY_SECONDS = {429: 60, 503: 5}
"""What Retry-After says: the same as the sentence on the page."""
OF_ANOTHER_SESSION = ("The CSRF tokens do not match.", "The CSRF token has expired.")
"""What Flask-WTF says of a token that the portal has made, though not for this session."""
NO_COOKIE = "The CSRF session token is missing."
"""What it says when no session came back with the form."""
EXPIRED = 419
"""Not in RFC 9110, and known all the same: a form's token is of another sign-in."""
WITH_SECRETS = re.compile(r"password|repeated|current|secret|code|auth_(token|key)$")
"""Fields that are not put into a page again: their forms are not offered to be sent again."""
PAIR = re.compile(r"((?:headers|query_params)-[0-9]+)-(value|secret)")
"""A header or parameter of a webhook, whose value is secret where a field says so."""
WHY_EXPIRED = "It was opened under another sign-in, or too long ago; nothing was stored."
NOT_NOW = "Not possible now"
"""What a conflict, as the API calls it, is to people."""
WORTH_TRYING_AGAIN = (429, 500, 503)
SENTENCES = {
    400: ("The request cannot be used", "Go back, reload the page and try again."),
    401: ("Not signed in", "Sign in to see this page."),
    403: ("Not allowed", "Your role does not include this. Ask an owner of the merchant."),
    404: ("Not found", "There is nothing at this address, or it is not yours to see."),
    405: ("Not possible here", "This address does not take that kind of request."),
    409: ("Changed meanwhile", "Someone changed this after you opened it. Reload and try again."),
    413: ("Too large", "What was sent is larger than the portal takes."),
    EXPIRED: ("This form has expired", f"{WHY_EXPIRED} Reload the page and send it again."),
    415: ("Wrong kind of content", "The portal cannot read content of this kind here."),
    429: ("Too many tries", "Wait a minute, then try again."),
    500: (
        "Something went wrong",
        "The portal failed at this, and the failure is in its log. "
        "Nothing was half stored; try again in a moment.",
    ),
    503: (
        "Busy right now",
        "The portal cannot store this at the moment. Try again in a few seconds.",
    ),
}


def init_app(app: Flask) -> None:
    """Register a handler for each kind of failure."""
    app.register_error_handler(PortalError, refused)
    app.register_error_handler(WrongHost, refused_to_anybody)
    app.register_error_handler(CSRFError, forged)
    app.register_error_handler(SQLAlchemyError, database_failed)
    app.register_error_handler(HTTPException, failed)


def refused(error: PortalError) -> Response:
    """What a stage function refused, with its own sentence."""
    title = NOT_NOW if type(error) is Conflict else error.title
    if isinstance(error, Unavailable):
        refusals.note(error)
    response = answer(error.status, title, error.detail)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def refused_to_anybody(error: WrongHost) -> Response:
    """The refusal of a name that is not the portal's, which shows nothing of who is signed in."""
    _see_nobody()
    return refused(error)


def forged(error: CSRFError) -> ResponseReturnValue:
    """A form without its token (400), or with one of another session (419). When the sign-in
    ended with that, the way leads to the next one."""
    security_log.note("form_token_refused")
    is_public = access.ACCESS.get(request.endpoint or "") is access.PUBLIC
    if not current_user.is_authenticated and not is_public:
        return signed_out()
    config = current_app.config["PORTAL"]
    if error.description == NO_COOKIE and config.secure_cookies and not request.is_secure:
        # Sending it again would never help: browsers do not even keep the cookie.
        return answer(
            400,
            "This needs HTTPS",
            "Cookies go over HTTPS only here, and this page was opened over plain HTTP, so nobody "
            f"can sign in. Open {config.public_url} instead. If you have, the proxy in front must "
            "pass X-Forwarded-Proto on, and PORTAL_PROXIES must count it.",
        )
    if error.description not in OF_ANOTHER_SESSION:
        return answer(400, *SENTENCES[EXPIRED])
    if rendering.wants_fragment():
        # The page stays as it is, with what was typed, and its token is renewed (app.js).
        response = answer(
            EXPIRED,
            "This form had expired",
            "Nothing was stored, and what you typed is still here. Send it again.",
        )
        response.headers["X-CSRF-Token"] = generate_csrf()
        return response
    title, remedy = SENTENCES[EXPIRED]
    typed = _typed()
    # Reloading would lose what is kept here.
    return answer(EXPIRED, title, WHY_EXPIRED if typed else remedy, typed=typed)


def signed_out() -> ResponseReturnValue:
    """What was sent after the sign-in had ended: nothing is done, and what was typed stays, in the
    page or to be sent again from this one. Where nothing was typed, the way leads to the
    sign-in."""
    if not _is_from_here() or not request.form.keys() - {"csrf_token"}:
        return access.to_sign_in()
    typed = [] if rendering.wants_fragment() else _typed()
    if not typed and not rendering.wants_fragment():
        return access.to_sign_in()
    return answer(
        401,
        "You are signed out",
        "Nothing was stored, and what you typed is still here. Sign in, which opens another tab, "
        "then send it again from this one.",
        typed=typed,
        sign_in=url_for("auth.sign_in", next=access.page_of_reader()),
    )


def _is_from_here() -> bool:
    """Whether a page of the portal sent the form."""
    return request.headers.get("Origin") == request.host_url.rstrip("/")


def _typed() -> list[tuple[str, str]]:
    """The fields of the form, to be sent again from the error page by one click.

    Empty unless the form came from a page of the portal: what another site put into it must not
    be one click away from being done in the reader's name.
    """
    if not _is_from_here():
        return []
    fields = [(name, text) for name, text in request.form.items(multi=True) if name != "csrf_token"]
    filled = [name for name, text in fields if text not in ("", MASK)]
    return [] if any(map(_is_secret, filled)) else fields


def _is_secret(name: str) -> bool:
    pair = PAIR.fullmatch(name)
    if pair is not None:
        return pair[2] == "value" and f"{pair[1]}-secret" in request.form
    return bool(WITH_SECRETS.search(name)) and not name.endswith("_sealed")


def database_failed(error: SQLAlchemyError) -> Response:
    """A database that cannot serve is a 503; everything else is a defect."""
    db.session.rollback()
    if isinstance(error, refusals.DELETED):
        return refused(refusals.deleted())
    refusal = refusals.of(error)
    if refusal is None:
        raise error
    refusals.note(refusal)
    title, remedy = SENTENCES[503]
    return answer(503, title, remedy if refusal.passes else refusal.detail)


def failed(error: HTTPException) -> ResponseReturnValue:
    """Any other status; Flask wraps a defect as a 500 after logging it."""
    status = error.code or 500
    if status == 401 and request.method != "GET":
        return signed_out()
    if error.response is not None or status < 400:
        return error.get_response()
    title, remedy = SENTENCES.get(status, (error.name, error.description or ""))
    if isinstance(error, InternalServerError):
        # The failed transaction may still be open, and the page reads who is signed in.
        db.session.rollback()
    return answer(status, title, remedy)


def answer(
    status: int, title: str, remedy: str, typed: Sequence[tuple[str, str]] = (), sign_in: str = ""
) -> Response:
    """The error page; in an HTMX request a message on top of the page that stays as it is.
    `typed` are fields that can be sent again from the page; `sign_in` is where to sign in
    before that. Where files are it is text alone: what lies before the portal may keep answers
    there, and a page shows who is signed in."""
    if request.path.startswith(FILES):
        return Response(f"{title}\n", status, mimetype="text/plain")
    context = {
        "status_code": status,
        "title": title,
        "remedy": remedy,
        "typed": typed,
        "sign_in": sign_in,
        "back": None if request.method == "GET" or sign_in else access.page_of_reader(),
        "request_id": request_ids.current() if status == 500 else None,
        "again": access.page_of_reader()
        if request.method == "GET" and status in WORTH_TRYING_AGAIN
        else None,
    }
    try:
        response = rendering.render("errors/page.html", "errors/_message.html", status, **context)
    except (SQLAlchemyError, Unavailable):
        # Who is signed in cannot be read either.
        db.session.rollback()
        _see_nobody()
        response = rendering.render("errors/page.html", "errors/_message.html", status, **context)
    if rendering.wants_fragment():
        response.headers["HX-Retarget"] = "#messages"
        response.headers["HX-Reswap"] = "innerHTML show:top"
    if status in RETRY_SECONDS:
        response.headers.setdefault("Retry-After", str(RETRY_SECONDS[status]))
    return response


def _see_nobody() -> None:
    # Flask-Login keeps the user in this place, and with nobody there the page comes without its
    # navigation.
    g._login_user = login.anonymous_user()
