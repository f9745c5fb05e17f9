"""The rules for how a webhook authenticates to its target."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from portal.characters import NOT_IN_LINE
from portal.clock import now, readable
from portal.errors import FieldError, pointer
from portal.json_schema import HTTP_URL, LINE, Schema, closed, described, text
from portal.models.webhook import AUTH_SECRETS, MASK, Auth
from portal.outbound.certificates import ends_at
from portal.webhooks.url_rules import MAX_URL

MAX_USER = 255
MAX_PASSWORD = 1_024
MAX_TOKEN = 8 * 1024
MAX_CLIENT_ID = 1_024
MAX_SCOPE = 1_024
MAX_PEM = 16 * 1024
MIN_RSA_BITS, MAX_RSA_BITS = 2_048, 4_096
"""OpenSSL takes no shorter key for TLS (security level 2)."""
CLIENT_AUTH = ("header", "body")
"""How ID and secret go to a token endpoint: as HTTP Basic, or in the body (RFC 6749, 2.3.1)."""

FIELDS = {
    "basic": ("type", "user", "password"),
    "bearer": ("type", "token"),
    "oauth2": (
        "type",
        "token_url",
        "client_id",
        "client_secret",
        "client_auth",
        "scope",
        "audience",
    ),
    "certificate": ("type", "certificate", "key"),
}
_EXAMPLES = (
    '{"type": "basic", "user": "…", "password": "…"}, {"type": "bearer", "token": "…"}, '
    '{"type": "oauth2", "token_url": "…", "client_id": "…", "client_secret": "…"}, '
    '{"type": "certificate", "certificate": "…", "key": "…"}, or null for none'
)
_OF_TLS = (RSAPrivateKey, EllipticCurvePrivateKey, Ed25519PrivateKey, Ed448PrivateKey)
"""Keys that sign for a client in TLS 1.3 (RFC 8446, 4.2.3)."""
_NO_COLON = LINE.replace("[^", "[^:")
_SCOPES = r"^([!#-\[\]-~]+( [!#-\[\]-~]+)*)?$"
SCHEMA: Schema = {
    "description": "What requests authenticate with; null for nothing. The secret in it is "
    "masked wherever it is shown; a change without it keeps it, for the same type and server.",
    "anyOf": [
        {"type": "null"},
        closed(
            {
                "type": {"const": "basic"},
                "user": text(_NO_COLON, most=MAX_USER, least=1),
                "password": text(LINE, most=MAX_PASSWORD, least=1),
            },
            "type",
            "user",
        ),
        closed(
            {
                "type": {"const": "bearer"},
                "token": text(f"^([!-~]+|{MASK})$", most=MAX_TOKEN, least=1),
            },
            "type",
        ),
        closed(
            {
                "type": {"const": "oauth2"},
                "token_url": text(HTTP_URL, most=MAX_URL),
                "client_id": text("^[ -~]+$", most=MAX_CLIENT_ID, least=1),
                "client_secret": text(f"^([ -~]+|{MASK})$", most=MAX_TOKEN, least=1),
                "client_auth": {"type": "string", "enum": list(CLIENT_AUTH)},
                "scope": text(_SCOPES, most=MAX_SCOPE),
                "audience": text("^[!-~]*$", most=MAX_SCOPE),
            },
            "type",
            "token_url",
            "client_id",
        ),
        closed(
            {
                "type": {"const": "certificate"},
                "certificate": described({"type": "string", "maxLength": MAX_PEM}, "PEM."),
                "key": described(
                    {"type": "string", "maxLength": MAX_PEM}, "PEM, without a passphrase."
                ),
            },
            "type",
            "certificate",
        ),
    ],
}
_VISIBLE = re.compile("[!-~]+")
_LINE = re.compile("[ -~]+")
_SCOPE = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")
"""RFC 6749, 3.3."""


@dataclass(frozen=True)
class SecretContext:
    """What the rules need beside the fields: `seal` encrypts a secret and `unseal` decrypts it;
    `clean_url` gives the plain form of a URL. The last two raise ValueError with a sentence."""

    seal: Callable[[str], str]
    unseal: Callable[[str], str]
    clean_url: Callable[[str], str]


def clean_auth(
    value: Any, stored: Auth | None, means: SecretContext
) -> tuple[Auth | None, list[FieldError]]:
    """A webhook's authentication, and what is wrong with it.

    A new secret is sealed. If it is left out, or is the mask, the one that is `stored` for the same
    type is kept.
    """
    if value is None:
        return None, []
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in FIELDS:
        where = "/auth/type" if isinstance(value, Mapping) else "/auth"
        return None, [FieldError(where, f"The authentication is {_EXAMPLES}.")]
    if stored is not None and stored["type"] != kind:
        stored = None
    errors = [
        FieldError(
            pointer("auth", str(name)[:100]),
            f"Authentication of the type {kind} has no field {str(name)[:100]!r}; it has "
            f"{', '.join(FIELDS[kind])}.",
        )
        for name in value
        if name not in FIELDS[kind]
    ]
    auth: Auth = {"type": kind}
    for name, clean in _CLEANERS[kind].items():
        try:
            auth[name] = clean(value.get(name), means)
        except ValueError as error:
            errors.append(FieldError(f"/auth/{name}", str(error)))
    secret = AUTH_SECRETS[kind]
    given = value.get(secret, MASK)
    try:
        if given == MASK and stored is not None:
            auth[secret] = stored[secret]
        else:
            auth[secret] = means.seal(_SECRETS[kind](given))
        if kind == "certificate" and "certificate" in auth:
            _check_pair(auth, stored, means)
    except ValueError as error:
        errors.append(FieldError(f"/auth/{secret}", str(error)))
    return (None, errors[:20]) if errors else (auth, [])


def certificate_ends_at(auth: Auth | None) -> int | None:
    """When the client certificate that a webhook shows ends (Unix µs); None where it shows none."""
    return None if auth is None or auth["type"] != "certificate" else ends_at(auth["certificate"])


# ── Fields that are not secret ─────────────────────────────────────────────────────────


def _user(user: Any, _means: SecretContext) -> str:
    if not isinstance(user, str) or not user:
        raise ValueError("Give the user for HTTP Basic.")
    if len(user) > MAX_USER:
        raise ValueError(f"The user has at most {MAX_USER} characters.")
    if ":" in user:
        # RFC 7617, 2: the first colon ends the user.
        raise ValueError("A user of HTTP Basic cannot hold a colon.")
    if NOT_IN_LINE.search(user):
        raise ValueError("The user holds a line break or control character; leave it out.")
    return user


def _token_url(url: Any, means: SecretContext) -> str:
    if not isinstance(url, str) or not url:
        raise ValueError(
            "Give the URL of the token endpoint, such as https://login.example.com/oauth/token."
        )
    return means.clean_url(url)


def _client_id(value: Any, _means: SecretContext) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("Give the client ID.")
    if len(value) > MAX_CLIENT_ID or not _LINE.fullmatch(value):
        raise ValueError(
            f"The client ID is ASCII without line breaks, at most {MAX_CLIENT_ID:,} characters."
        )
    return value


def _client_auth(value: Any, _means: SecretContext) -> str:
    value = "header" if value is None else value
    if value not in CLIENT_AUTH:
        raise ValueError(
            "client_auth says how the client ID and its secret are sent: header (HTTP Basic, the "
            "usual way) or body."
        )
    return str(value)


def _scope(value: Any, _means: SecretContext) -> str:
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) > MAX_SCOPE or not _SCOPE.fullmatch(value):
        raise ValueError(
            "The scope is words of ASCII with single spaces between, without quotes and "
            f"backslashes, at most {MAX_SCOPE:,} characters."
        )
    return value


def _audience(value: Any, _means: SecretContext) -> str:
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) > MAX_SCOPE or not _VISIBLE.fullmatch(value):
        raise ValueError(f"The audience is ASCII without spaces, at most {MAX_SCOPE:,} characters.")
    return value


def _certificate(value: Any, _means: SecretContext) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("Give the client certificate as PEM text: -----BEGIN CERTIFICATE-----…")
    if len(value) > MAX_PEM:
        raise ValueError(f"The client certificate is longer than {MAX_PEM // 1024} KiB.")
    if "PRIVATE KEY" in value:
        raise ValueError("This holds a private key; put that into the field of the key.")
    try:
        chain = x509.load_pem_x509_certificates(value.encode())
    except (ValueError, x509.InvalidVersion):
        raise ValueError(
            "This is no certificate in PEM: it begins with -----BEGIN CERTIFICATE----- and ends "
            "with -----END CERTIFICATE-----. The receiver's chain may follow it."
        ) from None
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in chain)


# ── Secrets ───────────────────────────────────────────────────────────────────────────────


def _password(password: Any) -> str:
    return _secret_line(password, "password", "for HTTP Basic", MAX_PASSWORD)


def _client_secret(secret: Any) -> str:
    line = _secret_line(secret, "client secret", "of the client", MAX_TOKEN)
    if not line.isascii():
        raise ValueError("The client secret holds a character that is not ASCII.")
    return line


def _secret_line(secret: Any, name: str, purpose: str, most: int) -> str:
    if not isinstance(secret, str) or not secret or secret == MASK:
        raise ValueError(f"Give the {name} {purpose}; none is stored that could stay.")
    if len(secret) > most:
        raise ValueError(f"The {name} has at most {most:,} characters.")
    if MASK in secret:
        raise ValueError(f"The {name} holds the dots of a mask; replace it whole.")
    if NOT_IN_LINE.search(secret):
        raise ValueError(f"The {name} holds a line break or control character; leave it out.")
    return secret


def _token(token: Any) -> str:
    if not isinstance(token, str) or not token or token == MASK:
        raise ValueError("Give the Bearer token; none is stored that could stay.")
    if len(token) > MAX_TOKEN:
        raise ValueError(f"The Bearer token is longer than {MAX_TOKEN // 1024} KiB.")
    if MASK in token:
        raise ValueError("The Bearer token holds the dots of a mask; replace it whole.")
    if not _VISIBLE.fullmatch(token):
        raise ValueError(
            "The Bearer token holds a space, a line break or a character that is not ASCII; give "
            "the token alone, without the word Bearer."
        )
    return token


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.strip() or key == MASK:
        raise ValueError("Give the private key of the certificate; none is stored that could stay.")
    if len(key) > MAX_PEM:
        raise ValueError(f"The private key is longer than {MAX_PEM // 1024} KiB.")
    return key.strip() + "\n"


def _check_pair(auth: Auth, stored: Auth | None, means: SecretContext) -> None:
    """Check that certificate and key belong together and that TLS can use them."""
    certificate = x509.load_pem_x509_certificates(auth["certificate"].encode())[0]
    text = means.unseal(auth["key"])
    try:
        # Whether its numbers are primes takes seconds to check, and concerns only its owner.
        key = load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
        mine, theirs = (
            one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for one in (key.public_key(), certificate.public_key())
        )
    except TypeError:
        raise ValueError(
            "The private key is protected by a passphrase; give it without one. It is encrypted "
            "as it is stored."
        ) from None
    except (ValueError, UnsupportedAlgorithm, InternalError):
        # The last stands for errors that the library does not know, such as an Ed448 key that is
        # too short.
        raise ValueError(
            "This is no private key in PEM: it begins with -----BEGIN PRIVATE KEY-----."
        ) from None
    if mine != theirs:
        raise ValueError("The private key does not belong to the first certificate.")
    if not isinstance(key, _OF_TLS):
        raise ValueError("TLS cannot use a key of this kind; give one of RSA, ECDSA or Ed25519.")
    if isinstance(key, RSAPrivateKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise ValueError(
            f"The RSA key has {key.key_size:,} bits; it may have {MIN_RSA_BITS:,} to "
            f"{MAX_RSA_BITS:,}."
        )
    is_new = stored is None or stored["certificate"] != auth["certificate"]
    if is_new and (end := ends_at(auth["certificate"])) <= now():
        raise ValueError(f"The certificate ended on {readable(end)}; get a new one.")


_CLEANERS: dict[str, dict[str, Callable[[Any, SecretContext], str]]] = {
    "basic": {"user": _user},
    "bearer": {},
    "oauth2": {
        "token_url": _token_url,
        "client_id": _client_id,
        "client_auth": _client_auth,
        "scope": _scope,
        "audience": _audience,
    },
    "certificate": {"certificate": _certificate},
}
_SECRETS: dict[str, Callable[[Any], str]] = {
    "basic": _password,
    "bearer": _token,
    "oauth2": _client_secret,
    "certificate": _key,
}
