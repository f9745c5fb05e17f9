"""Turning one's second factor on and off."""

from __future__ import annotations

from typing import Any

import segno
from flask import Blueprint, Response, current_app, flash, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from markupsafe import Markup

from portal import vault
from portal.errors import Invalid
from portal.people import passkeys, second_factor
from portal.views.account import own_password
from portal.web import rendering

bp = Blueprint("second_factor", __name__, url_prefix="/account/second-factor")


def _page(status: int = 200, **shown: Any) -> Response:
    page: dict[str, Any] = {"errors": {}, "codes": None, "secret": None, "form": ""}
    page |= _passkeys()
    if current_user.has_second_factor:
        page["codes_left"] = second_factor.codes_left(current_user)
    if not current_user.totp_token:
        page["secret"] = secret = _pending_secret()
        page["picture"] = _picture(second_factor.app_address(current_user, secret))
    return rendering.render("account/second_factor.html", status=status, **page | shown)


def _passkeys() -> dict[str, Any]:
    """The user's passkeys, and a new challenge for one more."""
    site = passkeys.site_of(current_app.config["PORTAL"])
    shown: dict[str, Any] = {"passkeys": passkeys.passkeys(current_user), "site": site}
    if site:
        challenge = passkeys.Challenge.make()
        session["challenge"] = challenge.keep()
        shown["options"] = passkeys.creation_options(current_user, site, challenge)
        shown["elsewhere"] = request.host_url.rstrip("/") != site.origin
    return shown


def _pending_secret() -> str:
    """The secret that the page shows until a code has proved that the app has it. It waits in
    the browser, encrypted, so that nothing is half stored."""
    try:
        return vault.decrypt(session.get("new_secret", ""))
    except vault.Unreadable:
        secret = second_factor.new_secret()
        session["new_secret"] = vault.encrypt(secret)
        return secret


def _picture(address: str) -> Markup:
    code = segno.make(address, error="m", micro=False)
    return Markup(code.svg_inline(scale=4, border=4, light="#fff", omitsize=False))


@bp.get("")
def show() -> ResponseReturnValue:
    """The picture for the app; or that it is on, and how many recovery codes are left."""
    return _page()


@bp.post("")
@own_password
def turn_on() -> ResponseReturnValue:
    """Turn it on and show the recovery codes in the answer to this very request."""
    try:
        codes = second_factor.turn_on(
            current_user,
            _pending_secret(),
            request.form.get("code", ""),
            request.form.get("password", ""),
        )
    except Invalid as error:
        return _page(422, errors=error.by_field())
    session.pop("new_secret", None)
    return _page(codes=codes)


@bp.post("/codes")
@own_password
def renew_codes() -> ResponseReturnValue:
    """Show new recovery codes; the old ones end."""
    try:
        codes = second_factor.renew_codes(current_user, request.form.get("password", ""))
    except Invalid as error:
        return _page(422, errors=error.by_field())
    return _page(codes=codes)


@bp.post("/off")
@own_password
def turn_off() -> ResponseReturnValue:
    """Ask for the password alone from now on."""
    try:
        second_factor.turn_off(current_user, request.form.get("password", ""))
    except Invalid as error:
        return _page(422, errors=error.by_field())
    flash("Your second factor is off. You sign in with your password alone.")
    return redirect(url_for("account.show"), 303)


@bp.post("/passkeys")
@own_password
def add_passkey() -> ResponseReturnValue:
    """Take a new passkey; with the first second factor the answer shows recovery codes."""
    challenge = passkeys.Challenge.read(session.pop("challenge", None))
    try:
        codes = passkeys.add(
            current_user,
            request.form.get("name", ""),
            request.form.get("passkey", ""),
            request.form.get("password", ""),
            challenge,
        )
    except Invalid as error:
        return _page(422, errors=error.by_field(), form="passkey")
    if codes:
        return _page(codes=codes)
    flash("The passkey is added.")
    return redirect(url_for("second_factor.show"), 303)


@bp.post("/passkeys/<passkey_id>/remove")
@own_password
def remove_passkey(passkey_id: str) -> ResponseReturnValue:
    """Take a passkey no more."""
    try:
        passkeys.remove(current_user, passkey_id, request.form.get("password", ""))
    except Invalid as error:
        return _page(422, errors=error.by_field(), form=passkey_id)
    flash("The passkey is removed.")
    return redirect(url_for("second_factor.show"), 303)
