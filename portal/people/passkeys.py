"""Passkeys as a second factor (WebAuthn level 2): a device signs a challenge after the password.

A challenge waits in the browser's signed session and works once: one that is older than the last
that was answered is refused, as with codes by time.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
import webauthn
from flask import current_app
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    parse_authentication_credential_json,
    parse_registration_credential_json,
    structs,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from portal import strict_json
from portal.addresses import DEFAULT_PORTS
from portal.audit.log import actor_of
from portal.clock import MINUTE, now
from portal.config import Config
from portal.db.session import db, writing
from portal.errors import FieldError, Invalid, NotFound
from portal.models import Passkey, User
from portal.models.locks import lock_user
from portal.notices.account_notices import record_and_notify
from portal.people import authenticators
from portal.people.rules import refuse, unique
from portal.people.second_factor import ISSUER, end_if_last, password_errors, replace_codes

CHALLENGE_TIME = 5 * MINUTE
MAX_ANSWER = 20_000
"""Characters of a browser's answer: it is short, since the portal asks for no attestation."""
MAX_CREDENTIAL = 1_023
"""Bytes of a credential's ID (WebAuthn §5.8.3)."""
MAX_NAME = 100
MAX_PASSKEYS = 20
WRONG_PASSKEY = "The passkey did not fit, or its time was over. Try it again."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """What passkeys are bound to: a name (RP ID), and the origin of the pages that may use them."""

    name: str
    origin: str


@dataclass(frozen=True)
class Challenge:
    """Random bytes that a device signs, and when they were made, in Unix µs."""

    value: bytes
    moment: int

    @classmethod
    def make(cls) -> Challenge:
        """A new one."""
        return cls(webauthn.helpers.generate_challenge(), now())

    @classmethod
    def read(cls, kept: Any) -> Challenge | None:
        """The challenge that `keep` wrote; None if there is none."""
        return cls(base64url_to_bytes(kept[0]), kept[1]) if kept else None

    def keep(self) -> list[Any]:
        """It as the session keeps it."""
        return [bytes_to_base64url(self.value), self.moment]


def site_of(config: Config) -> Site | None:
    """The portal's public address as passkeys see it; None for an IP address, to which browsers
    bind no passkeys. A portal for this machine alone has the name `localhost`."""
    address = urlsplit(config.public_url)
    name = address.hostname or ""
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return Site(name, _origin(address.scheme, name, address.port))
    if not ip.is_loopback:
        return None
    return Site("localhost", _origin(address.scheme, "localhost", address.port))


def creation_options(user: User, site: Site, challenge: Challenge) -> str:
    """What the browser needs to make a passkey, as JSON."""
    return webauthn.options_to_json(
        webauthn.generate_registration_options(
            rp_id=site.name,
            rp_name=ISSUER,
            user_name=user.email,
            user_id=str(user.id).encode(),
            challenge=challenge.value,
            exclude_credentials=_descriptors(user),
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.DISCOURAGED,
                user_verification=structs.UserVerificationRequirement.PREFERRED,
            ),
        )
    )


def request_options(user: User, site: Site, challenge: Challenge) -> str:
    """What the browser needs to use one of the user's passkeys, as JSON."""
    return webauthn.options_to_json(
        webauthn.generate_authentication_options(
            rp_id=site.name,
            challenge=challenge.value,
            allow_credentials=_descriptors(user),
            user_verification=structs.UserVerificationRequirement.PREFERRED,
        )
    )


def passkeys(user: User) -> Sequence[Passkey]:
    """A user's passkeys, the oldest first."""
    return db.session.scalars(
        sa.select(Passkey).where(Passkey.user_id == user.id).order_by(Passkey.created_at)
    ).all()


IN_USE = "This passkey is in use already."


def add(
    user: User, name: str, answer: str, password: str, challenge: Challenge | None
) -> list[str]:
    """Add a passkey, made with the browser's answer to `creation_options`, for the next sign-in on.
    Returns recovery codes if it is the first second factor, else none.

    Raises Invalid.
    """
    name = name.strip()
    checked, errors = user.password_hash, password_errors(user, password)
    if not name or len(name) > MAX_NAME or not name.isprintable():
        errors.append(FieldError("/name", f"Give a name of 1 to {MAX_NAME} visible characters."))
    refuse(errors)
    made = _verify_new(answer, challenge)
    with unique("/passkey", IN_USE), writing() as session:
        lock_user(session, user, checked)
        if made is None or challenge is None or not _is_fresh(user, challenge):
            raise Invalid([FieldError("/passkey", WRONG_PASSKEY)])
        if len(user.passkeys) >= MAX_PASSKEYS:
            raise Invalid(
                [
                    FieldError(
                        "/passkey", f"There are {MAX_PASSKEYS} passkeys already; remove one first."
                    )
                ]
            )
        if session.scalar(sa.select(Passkey.id).where(Passkey.credential == made.credential_id)):
            raise Invalid([FieldError("/passkey", IN_USE)])
        is_first = not user.has_second_factor
        user.passkeys.append(
            Passkey.make(name, made.credential_id, made.credential_public_key, made.sign_count)
        )
        user.passkey_moment = now()
        record_and_notify(session, user, actor_of(user), "user.passkey_added", name=name)
        return replace_codes(session, user) if is_first else []


def remove(user: User, passkey_id: str, password: str) -> None:
    """Remove one of a user's passkeys. Raises Invalid and NotFound."""
    checked = user.password_hash
    refuse(password_errors(user, password))
    with writing() as session:
        lock_user(session, user, checked)
        found = next((one for one in user.passkeys if one.id == passkey_id), None)
        if found is None:
            raise NotFound("There is no such passkey; it is removed already.")
        user.passkeys.remove(found)
        record_and_notify(session, user, actor_of(user), "user.passkey_removed", name=found.name)
        end_if_last(session, user)


def check(user: User, answer: str, challenge: Challenge | None) -> bool:
    """Whether one of the user's passkeys has signed the challenge, which is then used up. A copy of
    a passkey is refused, noted, and reported to the user."""
    site = site_of(current_app.config["PORTAL"])
    if challenge is None or site is None or len(answer) > MAX_ANSWER:
        return False
    signed = _verify(user, answer, challenge, site)
    if signed is None:
        return False
    used, given = signed
    with writing() as session:
        # Two requests with the same answer at once are handled one after the other.
        lock_user(session, user)
        passkey = next((one for one in user.passkeys if one.id == used), None)
        if passkey is None or not _is_fresh(user, challenge):
            return False
        user.passkey_moment = now()
        if _went_back(passkey.sign_count, given):
            record_and_notify(session, user, "portal", "user.passkey_cloned", name=passkey.name)
            return False
        passkey.sign_count = given
        passkey.used_at = user.passkey_moment
        return True


def _verify(user: User, answer: str, challenge: Challenge, site: Site) -> tuple[str, int] | None:
    """The ID of the user's passkey that signed the challenge, and its count; None if none did."""
    known = {one.credential: one for one in user.passkeys}
    try:
        given = parse_authentication_credential_json(_parsed(answer))
        authenticators.check_data(given.response.authenticator_data)
        passkey = known[given.raw_id]
        verified: VerifiedAuthentication = webauthn.verify_authentication_response(
            credential=given,
            expected_challenge=challenge.value,
            expected_rp_id=site.name,
            expected_origin=site.origin,
            # Compared later, to tell a count that went back from a signature that does not fit.
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,
        )
    except Exception:  # noqa: BLE001 - libraries raise anything at what strangers write
        _log.debug("a passkey's answer does not fit", exc_info=True)
        return None
    return passkey.id, verified.new_sign_count


def _went_back(known: int, given: int) -> bool:
    """Whether a device that counts did not count up, so that a copy of it exists (WebAuthn §7.2,
    step 21). A device that does not count always says 0."""
    return given <= known and (given, known) != (0, 0)


def _verify_new(answer: str, challenge: Challenge | None) -> VerifiedRegistration | None:
    """What the library found in a new passkey; None if it does not fit."""
    site = site_of(current_app.config["PORTAL"])
    if challenge is None or site is None or len(answer) > MAX_ANSWER:
        return None
    try:
        given = parse_registration_credential_json(_parsed(answer))
        authenticators.check_attestation(given.response.attestation_object)
        made = webauthn.verify_registration_response(
            credential=given,
            expected_challenge=challenge.value,
            expected_rp_id=site.name,
            expected_origin=site.origin,
        )
    except Exception:  # noqa: BLE001 - libraries raise anything at what strangers write
        _log.debug("a new passkey does not fit", exc_info=True)
        return None
    return made if len(made.credential_id) <= MAX_CREDENTIAL else None


def _parsed(answer: str) -> Any:
    return strict_json.parse(answer.encode(errors="replace"))


def _is_fresh(user: User, challenge: Challenge) -> bool:
    return max(user.passkey_moment or 0, now() - CHALLENGE_TIME) < challenge.moment


def _descriptors(user: User) -> list[structs.PublicKeyCredentialDescriptor]:
    return [structs.PublicKeyCredentialDescriptor(id=one.credential) for one in passkeys(user)]


def _origin(scheme: str, name: str, port: int | None) -> str:
    is_usual = port in (None, DEFAULT_PORTS[scheme])
    return f"{scheme}://{name}" + ("" if is_usual else f":{port}")
