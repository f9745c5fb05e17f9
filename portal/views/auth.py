"""Signing in and out."""

from __future__ import annotations

import hashlib
import re
import time

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_limiter import RequestLimit
from flask_login import current_user, login_user, logout_user

from portal.clock import SECOND, now
from portal.extensions import limiter, login
from portal.models import User
from portal.models.user import MAX_PASSWORD
from portal.people import accounts
from portal.people.rules import clean_email

bp = Blueprint("auth", __name__)

TRIES_PER_ADDRESS = "30 per minute; 300 per hour"
TRIES_PER_USER = "10 per minute; 100 per hour"
WRONG = "The address or the password is wrong."
# A browser takes "//host", "/\host" and, after dropping tabs and line breaks, "/<tab>/host" for
# another site.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]{0,2000}")


@login.user_loader
def load_user(session_id: str) -> User | None:
    """The signed-in user of a session; None once it ended or is over PORTAL_SESSION_HOURS old."""
    moment = now() // SECOND
    limit = current_app.config["PORTAL"].session_hours * 3_600
    if moment - session.get("signed_in_at", moment) > limit:
        return None
    return accounts.user_of_session(session_id)


def start_session(user: User) -> None:
    """Sign a user in under a new session: nothing of the one before remains."""
    session.clear()
    session.permanent = True
    session["signed_in_at"] = now() // SECOND
    login_user(user)


def local_path(target: str | None) -> str | None:
    """The path to go to after signing in, when it is one of this portal; else None."""
    return target if target and _LOCAL.fullmatch(target) else None


def _was_refused(response: Response) -> bool:
    return response.status_code == 422


def _email_key() -> str:
    # Hashed: what was typed may be long, or a password in the wrong field.
    return hashlib.sha256(clean_email(request.form.get("email", "")).encode()).hexdigest()


def _too_many(limit: RequestLimit) -> Response:
    seconds = max(1, limit.reset_at - int(time.time()))
    minutes = -(-seconds // 60)
    wait = "a minute" if minutes == 1 else f"{minutes} minutes"
    response = _form(f"There were too many tries. Wait {wait}, then try again.", 429)
    response.headers["Retry-After"] = str(seconds)
    return response


def _form(error: str = "", status: int = 200) -> Response:
    return make_response(
        render_template(
            "auth/sign_in.html", error=error, email=request.form.get("email", ""),
            next=local_path(request.values.get("next")) or "",
        ),
        status,
    )


@bp.route("/sign-in", methods=["GET", "POST"])
@limiter.limit(
    TRIES_PER_USER, key_func=_email_key, methods=["POST"], deduct_when=_was_refused,
    on_breach=_too_many,
)
@limiter.limit(
    TRIES_PER_ADDRESS, methods=["POST"], deduct_when=_was_refused, on_breach=_too_many
)
def sign_in() -> ResponseReturnValue:
    """The form, and what it sends; only failed tries count towards the limits."""
    target = local_path(request.values.get("next")) or url_for("home.root")
    if request.method == "GET":
        return redirect(target, 303) if current_user.is_authenticated else _form()
    password = request.form.get("password", "")
    if len(password) > MAX_PASSWORD:
        return _form(f"A password has at most {MAX_PASSWORD} characters.", 422)
    user = accounts.sign_in(request.form.get("email", ""), password)
    if user is None:
        return _form(WRONG, 422)
    start_session(user)
    return redirect(target, 303)


@bp.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End every session of the user."""
    accounts.sign_out(current_user)
    logout_user()
    session.clear()
    flash("You are signed out, on this device and all others.")
    return redirect(url_for("auth.sign_in"), 303)
