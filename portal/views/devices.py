"""Devices that have signed in before: who tries passwords elsewhere must not keep out the one who
signs in here every day, so a device that is known counts by itself (OWASP, device cookies)."""

from __future__ import annotations

from flask import Response, current_app, request, url_for

from portal import vault
from portal.ids import new_token
from portal.people.rules import clean_email
from portal.web import cookies

YEAR_SECONDS = 365 * 86_400


def known_as(email: str) -> str:
    """A name of the device where it has signed in with this address before; else empty."""
    try:
        device, _, known = vault.decrypt(request.cookies.get(cookies.DEVICE, "")).partition(" ")
    except vault.Unreadable:
        return ""
    return device if known == clean_email(email) else ""


def remember(response: Response, email: str) -> Response:
    """Let this device be known for an address from now on, a year long."""
    response.set_cookie(
        cookies.DEVICE,
        vault.encrypt(f"{new_token()} {email}"),
        max_age=YEAR_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=current_app.config["PORTAL"].secure_cookies,
        path=url_for("auth.sign_in"),
    )
    return response
