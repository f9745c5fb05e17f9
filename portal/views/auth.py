"""Signing in and out."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from functools import partial

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    g,
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
from limits import parse
from sqlalchemy.exc import DBAPIError

from portal.clock import MINUTE, now
from portal.errors import TooManyRequests, Unavailable
from portal.fairness import courtesy
from portal.models import User
from portal.models.user import MAX_PASSWORD
from portal.people import accounts, passkeys, second_factor, sessions, tries
from portal.people.rules import clean_email
from portal.views import devices
from portal.web.extensions import limit_by_sender, limiter, login, sender_network

bp = Blueprint("auth", __name__)

TRIES_PER_ADDRESS = "30 per minute; 300 per hour"
TRIES_PER_USER = "10 per minute; 100 per hour"
TRIES_OF_CODES = "5 per minute; 50 per day"
SIGN_INS = parse("60 per hour")
"""Of one account with the same password, on devices that are known and on all others: each stands
in the audit log for ever."""
SECOND_STEP_TIME = 5 * MINUTE
Form = Callable[[str, int], Response]
"""Shows a form again, with what was wrong and a status."""
WRONG = "The address or the password is wrong."
# A browser takes "//host", "/\host" and, after dropping tabs and line breaks, "/<tab>/host" for
# another site.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]{0,2000}")


@login.user_loader  # type: ignore[untyped-decorator] # Flask-Login has no types
def load_user(user_id: str) -> User | None:
    """Who is signed in; None once that has ended. Sets `g.user_session`."""
    found = sessions.find(session.get("token", ""))
    if found is None or found[1].get_id() != user_id:
        return None
    g.user_session, user = found
    if g.user_session.used_at < now() - sessions.NOTED_EVERY:
        g.used_session_id = g.user_session.id
    return user


@bp.after_app_request
def note_use(response: Response) -> Response:
    """Write that the sign-in is in use; what fails is tried again at the next request."""
    if response.status_code < 400 and "used_session_id" in g:
        try:
            sessions.note_use(g.used_session_id, request.remote_addr or "")
        except (DBAPIError, Unavailable) as error:
            current_app.logger.warning("use of a sign-in not noted: %s", error)
    return response


def start_session(user: User) -> None:
    """Sign a user in under a new session: nothing of the one before remains."""
    token = sessions.begin(user, request.remote_addr or "", request.user_agent.string)
    session.clear()
    session.permanent = True
    session["token"] = token
    login_user(user)
    courtesy.is_for(f"user {user.id}")


def local_path(target: str | None) -> str | None:
    """The path to go to after signing in, when it is one of this portal; else None."""
    return target if target and _LOCAL.fullmatch(target) else None


def _was_refused(response: Response) -> bool:
    return response.status_code == 422


def _was_tried(response: Response) -> bool:
    # Also where there was no time to look at the password, which says nothing of whose it is.
    return _was_refused(response) or "password_had_no_turn" in g


def _email_key() -> str:
    email = clean_email(request.form.get("email", ""))
    # Hashed: what was typed may be long, or a password in the wrong field.
    return hashlib.sha256(f"{email} {devices.known_as(email)}".encode()).hexdigest()


def _sender_key(sender: str) -> str:
    return devices.known_as(request.form.get("email", "")) or sender


def _too_many(form: Form, limit: RequestLimit) -> Response:
    # Redis knows the end to the second, and the limiter rounds up: at most the whole period.
    seconds = min(max(1, limit.reset_at - int(time.time())), limit.limit.get_expiry())
    minutes = -(-seconds // 60)
    wait = "a minute" if minutes == 1 else f"{minutes} minutes"
    response = form(f"There were too many tries. Wait {wait}, then try again.", 429)
    response.headers["Retry-After"] = str(seconds)
    return response


def _form(error: str = "", status: int = 200) -> Response:
    return make_response(
        render_template(
            "auth/sign_in.html",
            error=error,
            email=request.form.get("email", ""),
            next=local_path(request.values.get("next")) or "",
        ),
        status,
    )


@bp.route("/sign-in", methods=["GET", "POST"])
@limiter.limit(
    TRIES_PER_USER,
    key_func=_email_key,
    methods=["POST"],
    deduct_when=_was_refused,
    on_breach=partial(_too_many, _form),
)
@limit_by_sender(
    TRIES_PER_ADDRESS,
    _sender_key,
    methods=["POST"],
    deduct_when=_was_tried,
    on_breach=partial(_too_many, _form),
)
def sign_in() -> ResponseReturnValue:
    """The form, and what it sends; only failed tries count towards the limits."""
    target = local_path(request.values.get("next")) or url_for("home.root")
    if request.method == "GET":
        return redirect(target, 303) if current_user.is_authenticated else _form()
    password = request.form.get("password", "")
    if len(password) > MAX_PASSWORD:
        return _form(f"A password has at most {MAX_PASSWORD} characters.", 422)
    try:
        user = accounts.user_with_password(request.form.get("email", ""), password)
    except TooManyRequests:
        g.password_had_no_turn = True
        raise
    if user is None:
        tries.note_refused("sign_in_refused", clean_email(request.form.get("email", "")))
        return _form(WRONG, 422)
    if not user.has_second_factor:
        return _let_in(user, target, _form)
    session.clear()
    session["first_step"] = [user.id, accounts.password_mark(user), now(), target]
    return redirect(url_for("auth.second_step"), 303)


def _let_in(user: User, target: str, form: Form) -> Response:
    email = user.email
    # Counted once everything was right, so that no stranger keeps anybody out; and who does because
    # they know the password is out with the next one, which a mailed link gives.
    known = "known" if devices.known_as(email) else ""
    whose = f"{user.id} {accounts.password_mark(user)} {known}"
    counted = [current_app.config["RATELIMIT_KEY_PREFIX"], whose]
    if not limiter.limiter.hit(SIGN_INS, *counted):
        return _too_many(form, RequestLimit(limiter, SIGN_INS, counted, True, False))
    start_session(user)
    return devices.remember(make_response(redirect(target, 303)), email)


def _after_first_step() -> tuple[User, str] | None:
    """Who has given the right password a moment ago, and where they wanted to go."""
    user_id, mark, moment, target = session.get("first_step") or (0, "", 0, "")
    if now() - moment > SECOND_STEP_TIME:
        return None
    user = accounts.user_with_mark(user_id, mark)
    return (user, target) if user else None


def _code_key() -> str:
    # Who has not given the password has no code to try, and so cannot use up anybody's tries.
    waiting = _after_first_step()
    if waiting is None:
        return sender_network()
    return f"{waiting[0].id} {devices.known_as(waiting[0].email)}"


def _code_form(error: str = "", status: int = 200) -> Response:
    waiting = _after_first_step()
    options = _passkey_options(waiting[0]) if waiting else ""
    return make_response(
        render_template("auth/second_step.html", error=error, options=options), status
    )


def _passkey_options(user: User) -> str:
    """A new challenge for the user's passkeys, bound to this sign-in; empty without any."""
    site = passkeys.site_of(current_app.config["PORTAL"])
    if site is None or not user.passkeys:
        return ""
    challenge = passkeys.Challenge.make()
    session["challenge"] = challenge.keep()
    return passkeys.request_options(user, site, challenge)


@bp.route("/sign-in/code", methods=["GET", "POST"])
@limiter.limit(
    TRIES_OF_CODES,
    key_func=_code_key,
    methods=["POST"],
    deduct_when=_was_refused,
    on_breach=partial(_too_many, _code_form),
)
def second_step() -> ResponseReturnValue:
    """The second factor, after the password."""
    waiting = _after_first_step()
    if waiting is None:
        flash("Sign in again, please: the second step waits for five minutes.", "info")
        return redirect(url_for("auth.sign_in"), 303)
    user, target = waiting
    if request.method == "GET":
        return _code_form()
    if answer := request.form.get("passkey", ""):
        challenge = passkeys.Challenge.read(session.pop("challenge", None))
        if not passkeys.check(user, answer, challenge):
            return _refuse_code(user, passkeys.WRONG_PASSKEY)
    elif not second_factor.check(user, request.form.get("code", "")):
        return _refuse_code(user, second_factor.WRONG_CODE)
    return _let_in(user, target, _code_form)


def _refuse_code(user: User, error: str) -> Response:
    tries.note_refused("second_factor_refused", user.email)
    return _code_form(error, 422)


@bp.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End the sign-in, also for whoever has a copy of its cookie."""
    sessions.end(current_user, g.user_session.id)
    logout_user()
    session.clear()
    flash("You are signed out.")
    return redirect(url_for("auth.sign_in"), 303)
