"""A second factor for signing in: an app's codes by time (TOTP, RFC 6238), and recovery codes for
when the app and the passkeys (portal.people.passkeys) are lost. Each code works once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote, urlencode

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal import vault
from portal.audit.log import actor_of, record
from portal.clock import SECOND, now
from portal.db.session import db, writing
from portal.errors import FieldError, Invalid
from portal.ids import digest_of
from portal.models import RecoveryCode, User
from portal.models.locks import lock_user
from portal.models.user import MAX_PASSWORD
from portal.notices.account_notices import record_and_notify
from portal.people import tries

STEP_SECONDS = 30
DIGITS = 6
DRIFT = 1
"""How many steps before and after now are accepted too, for clocks that differ (§5.2)."""
SECRET_BYTES = 20
"""As long as the hash, as RFC 4226 §4 recommends."""
RECOVERY_CODES = 10
ISSUER = "Webhook Portal"
WRONG_CODE = "This code is wrong, too old, or was used already. Wait for the next one."


def code_at(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of a step; its number is Unix seconds ÷ STEP_SECONDS (RFC 6238 §4, RFC 4226
    §5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}}"


def new_secret() -> str:
    """A secret for a new app, in Base32, as apps read it."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def app_address(user: User, secret: str) -> str:
    """The `otpauth:` address that the app reads from the picture."""
    label = quote(f"{ISSUER}:{user.email}")
    return f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': ISSUER})}"


def turn_on(user: User, secret: str, code: str, password: str) -> list[str]:
    """Ask for a second factor from the next sign-in on. Returns the recovery codes, to be shown
    once.

    `code` comes from the app and proves that it has the secret. Raises Invalid.
    """
    checked, errors = user.password_hash, password_errors(user, password)
    step = _step_of(secret, code)
    if step is None:
        errors.append(FieldError("/code", WRONG_CODE))
    if errors:
        raise Invalid(errors)
    token = vault.encrypt(secret)
    with writing() as session:
        lock_user(session, user, checked)
        user.totp_token, user.totp_step = token, step
        record_and_notify(session, user, actor_of(user), "user.second_factor_on")
        return replace_codes(session, user)


def renew_codes(user: User, password: str) -> list[str]:
    """New recovery codes in place of the old. Raises Invalid."""
    checked = user.password_hash
    if errors := password_errors(user, password):
        raise Invalid(errors)
    with writing() as session:
        lock_user(session, user, checked)
        record_and_notify(session, user, actor_of(user), "user.recovery_codes_renewed")
        return replace_codes(session, user)


def turn_off(user: User, password: str) -> None:
    """Ask a user only for the password from now on. Raises Invalid."""
    checked = user.password_hash
    if errors := password_errors(user, password):
        raise Invalid(errors)
    remove(user, actor_of(user), checked)


def remove(user: User, actor: str, checked: str | None = None) -> None:
    """The same without the password, by an operator who knows whom they are helping."""
    with writing() as session:
        lock_user(session, user, checked)
        if user.has_second_factor:
            record_and_notify(session, user, actor, "user.second_factor_off")
        user.totp_token = user.totp_step = None
        user.passkeys = []
        end_if_last(session, user)


def end_if_last(session: scoped_session[Session], user: User) -> None:
    """Delete the recovery codes, in the running transaction, if there is no second factor left that
    they could stand in for."""
    if not user.has_second_factor:
        session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))


def codes_left(user: User) -> int:
    """How many recovery codes a user has not used."""
    return (
        db.session.scalar(
            sa.select(sa.func.count())
            .select_from(RecoveryCode)
            .where(RecoveryCode.user_id == user.id)
        )
        or 0
    )


def check(user: User, code: str) -> bool:
    """Whether this is a code of the user's app, or a recovery code; it is then used up."""
    with writing() as session:
        # Two requests with the same code at once are handled one after the other.
        lock_user(session, user)
        if not user.has_second_factor:
            return False
        step = _step_of(_secret_of(user), code)
        if step is not None and step > (user.totp_step or 0):
            user.totp_step = step
            return True
        found = session.get(RecoveryCode, (user.id, digest_of(_clean(code))))
        if found is None:
            return False
        session.delete(found)
        record(session, actor_of(user), "user.recovery_code_used", user.email)
        return True


def _step_of(secret: str, code: str) -> int | None:
    """The step, around now, to which the code belongs."""
    try:
        key = base64.b32decode(secret)
    except ValueError:
        return None
    current = now() // (STEP_SECONDS * SECOND)
    given = _clean(code).encode(errors="replace")
    for step in range(current - DRIFT, current + DRIFT + 1):
        if key and hmac.compare_digest(code_at(key, step).encode(), given):
            return step
    return None


def _secret_of(user: User) -> str:
    try:
        return vault.decrypt(user.totp_token or "")
    except vault.Unreadable:
        # The portal's secret key is lost; the recovery codes still work.
        return ""


def _clean(code: str) -> str:
    return "".join(letter for letter in code[:100] if letter.isalnum()).lower()


def password_errors(user: User, password: str) -> list[FieldError]:
    """Errors if this is not the user's own password."""
    if len(password) > MAX_PASSWORD or not user.check_password(password):
        tries.note_refused("password_refused", user.email)
        return [FieldError("/password", "This is not your current password.")]
    return []


def replace_codes(session: scoped_session[Session], user: User) -> list[str]:
    """New codes of 80 random bits each; only their hashes are stored."""
    session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    codes = [
        base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES)
    ]
    session.add_all(RecoveryCode(user_id=user.id, digest=digest_of(code)) for code in codes)
    return ["-".join(code[start : start + 4] for start in range(0, 16, 4)) for code in codes]
