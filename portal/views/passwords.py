"""For who has forgotten their password: the wish for a link, and the link's page."""

from __future__ import annotations

import hashlib

from flask import Blueprint, Response, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue

from portal.errors import Invalid
from portal.people import resets
from portal.people.rules import clean_email
from portal.web import rendering
from portal.web.extensions import limit_by_sender, limiter

bp = Blueprint("passwords", __name__)

WISHES_PER_USER = "3 per hour"
WISHES_PER_ADDRESS = "10 per hour"
LOOKS_PER_ADDRESS = "60 per minute"


def _asked_email() -> str:
    return clean_email(request.form.get("email", ""))


def _email_key() -> str:
    return hashlib.sha256(_asked_email().encode(errors="replace")).hexdigest()


def _forgot(status: int = 200, asked: str = "", error: str = "") -> Response:
    return rendering.render(
        "passwords/forgot.html",
        status=status,
        asked=asked,
        error=error,
        alone=True,
        email=request.form.get("email", ""),
    )


def _too_many(_limit: object) -> Response:
    return _forgot(429, error="There were many wishes. Look for the mail, or wait an hour.")


@bp.route("/forgot-password", methods=["GET", "POST"])
@limiter.limit(WISHES_PER_USER, key_func=_email_key, methods=["POST"], on_breach=_too_many)
@limit_by_sender(WISHES_PER_ADDRESS, methods=["POST"], on_breach=_too_many)
def forgot() -> ResponseReturnValue:
    """Mail a link to the address. The answer is the same whether or not it has an account."""
    if request.method == "GET" or not current_app.config["PORTAL"].smtp_url:
        return _forgot()
    try:
        resets.send_link(_asked_email())
    except Invalid as error:
        return _forgot(422, error=error.detail)
    return _forgot(asked=_asked_email())


@bp.route("/reset-password/<token>", methods=["GET", "POST"])
@limit_by_sender(LOOKS_PER_ADDRESS)
def choose(token: str) -> ResponseReturnValue:
    """Choose another password; then one signs in with it."""
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        try:
            resets.choose(token, request.form.get("password", ""), request.form.get("repeated", ""))
        except Invalid as error:
            errors = error.by_field()
        else:
            flash("Your password is changed. Sign in with it.")
            return redirect(url_for("auth.sign_in"), 303)
    return rendering.render(
        "passwords/choose.html",
        status=422 if errors else 200,
        user=resets.find(token),
        token=token,
        errors=errors,
        alone=True,
    )
