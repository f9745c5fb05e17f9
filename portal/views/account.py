"""One's own account."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.errors import Invalid
from portal.notices import choices
from portal.people import accounts, sessions
from portal.views.auth import start_session
from portal.web import rendering
from portal.web.extensions import limiter

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

bp = Blueprint("account", __name__, url_prefix="/account")

_tries = limiter.shared_limit(
    "10 per minute; 100 per hour",
    scope="own_password",
    key_func=lambda: str(current_user.get_id()),
    deduct_when=lambda response: response.status_code == 422,
)
_changes = limiter.shared_limit(
    "60 per hour",
    scope="own_sign_in",
    key_func=lambda: str(current_user.id),
    deduct_when=lambda response: response.status_code < 400,
)


def own_password(view: View) -> View:
    """A view that asks for one's current password, and changes what one signs in with: whoever has
    got hold of a sign-in can try no more of them than at the sign-in page, and who knows it changes
    things no more often than one can sign in, for each change stands in the audit log for ever."""
    return cast(View, _tries(_changes(view)))


# The first that is found: most browsers also name those whose pages they can show.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def _page(status: int = 200, errors: dict[str, list[str]] | None = None) -> Response:
    return rendering.render(
        "account/show.html",
        status=status,
        errors=errors or {},
        kinds=choices.KINDS,
        chosen=choices.chosen(current_user),
        sessions=sessions.sessions(current_user),
        here=g.user_session.id,
        device_name=device_name,
    )


def device_name(agent: str) -> str:
    """A browser's User-Agent in words: `Firefox on Linux`; what is unknown is shown as it is."""
    browser, system = (
        next((name for mark, name in names.items() if mark in agent), "")
        for names in (_BROWSERS, _SYSTEMS)
    )
    if browser and system:
        return f"{browser} on {system}"
    return browser or agent[:80] or "unknown"


@bp.get("")
def show() -> ResponseReturnValue:
    """Who one is, where one is a member, what one is told, and the form for another password."""
    return _page()


@bp.post("/notices/<slug>")
def choose_notices(slug: str) -> ResponseReturnValue:
    """Choose which notices of a merchant come by mail; only for its members."""
    choices.choose(current_user, g.merchant, request.form.getlist("kinds"))
    flash("What you are told by mail is changed.")
    return redirect(url_for("account.show"), 303)


@bp.post("/sessions/<session_id>/end")
def end_session(session_id: str) -> ResponseReturnValue:
    """End one of one's sign-ins."""
    sessions.end(current_user, session_id)
    flash("That sign-in has ended.")
    return redirect(url_for("account.show"), 303)


@bp.post("/sessions/end-others")
def end_other_sessions() -> ResponseReturnValue:
    """End all of one's sign-ins but this one."""
    sessions.end_others(current_user, g.user_session.id)
    flash("You are signed out on all other devices.")
    return redirect(url_for("account.show"), 303)


@bp.post("/password")
@own_password
def change_password() -> ResponseReturnValue:
    """Take another password; every other session ends, this one is renewed."""
    fields = (request.form.get(name, "") for name in ("current", "password", "repeated"))
    try:
        accounts.change_own_password(current_user, *fields)
    except Invalid as error:
        return _page(422, error.by_field())
    start_session(accounts.get_user(current_user.email))
    flash("Your password is changed. Your sign-ins on other devices have ended.")
    return redirect(url_for("account.show"), 303)
