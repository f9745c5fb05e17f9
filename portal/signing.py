"""Signatures of requests: Standard Webhooks 1.0.0 and EvolutionX's own, side by side.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX, PUBLIC_PREFIX = "whsec_", "whpk_"
SECRET_BYTES = 32
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""The length of a secret as the Standard Webhooks specification allows it."""
MAX_OLD_SECRETS = 5
"""Secrets that were replaced and still sign."""
EVOX_HEADERS = (
    "Evox-Signature",
    "Evox-Signature-Old",
    *(f"Evox-Signature-Old-{number}" for number in range(2, MAX_OLD_SECRETS + 1)),
)
"""Where the current secret's value is, then those of the ones before it, the newest first."""


def new_secret() -> str:
    """A fresh signing secret: `whsec_` and base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """The key inside a secret's text. Raises ValueError when it is not `whsec_` + base64 of
    24 to 64 bytes."""
    if not secret.startswith(PREFIX):
        raise ValueError("a secret starts with whsec_")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("after whsec_ a secret is base64") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError("a secret holds 24 to 64 bytes")
    return key


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One `webhook-signature` entry: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.

    `timestamp` is in Unix seconds.
    """
    return _standard(_keyed(secret_bytes(secret)), _start(message_id, timestamp), body)


def sign_ed25519(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One `webhook-signature` entry: `v1a,` and base64 of the Ed25519 signature (RFC 8032) over
    `id.timestamp.body`, made with the private key that follows from the secret."""
    return _asymmetric(_private_key(secret), _start(message_id, timestamp), body)


def public_key(secret: str) -> str:
    """What verifies `sign_ed25519` and can sign nothing: `whpk_` and base64 of 32 bytes."""
    return (
        PUBLIC_PREFIX
        + base64.b64encode(_private_key(secret).public_key().public_bytes_raw()).decode()
    )


def evox_sign(secret: str, timestamp: int, body: bytes) -> str:
    """`Evox-Signature`: lowercase hex HMAC-SHA256 over `timestamp.body`, keyed with the
    secret's text as it stands. `timestamp` is in Unix seconds."""
    return hmac.new(secret.encode(), b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()


class Signer:
    """Signs many requests of one webhook; secrets are decoded once.

    `secrets_in_use` holds the current secret first, then those before it that still sign, the
    newest first. Standard Webhooks carries a signature of each in one header. `Evox-Signature`
    has room for one, so each secret has a header of its own, as in EVOX_HEADERS. With `ed25519`
    the Standard Webhooks header also carries a `v1a` signature of each.
    """

    def __init__(self, secrets_in_use: list[str], *, ed25519: bool = False):
        # Keyed once and copied: half of what a fresh HMAC costs.
        self._keys = [
            (_keyed(secret.encode()), _keyed(secret_bytes(secret))) for secret in secrets_in_use
        ]
        self._private_keys = list(map(_private_key, secrets_in_use)) if ed25519 else []

    def headers(self, message_id: str, timestamp: int, body: bytes) -> list[tuple[str, str]]:
        """The signature headers of one attempt; `timestamp` is in Unix seconds."""
        time = str(timestamp)
        start, evox_start = _start(message_id, timestamp), f"{time}.".encode()
        signatures = [_standard(key, start, body) for _, key in self._keys]
        signatures += [_asymmetric(key, start, body) for key in self._private_keys]
        headers = [
            ("webhook-id", message_id),
            ("webhook-timestamp", time),
            ("webhook-signature", " ".join(signatures)),
            ("Evox-Time", time),
        ]
        for name, (key, _) in zip(EVOX_HEADERS, self._keys, strict=False):
            headers.append((name, _digest(key, evox_start, body).hex()))
        return headers


def _start(message_id: str, timestamp: int) -> bytes:
    """What is signed before the body."""
    return f"{message_id}.{timestamp}.".encode()


def _standard(key: HMAC, start: bytes, body: bytes) -> str:
    return "v1," + base64.b64encode(_digest(key, start, body)).decode()


def _asymmetric(key: Ed25519PrivateKey, start: bytes, body: bytes) -> str:
    return "v1a," + base64.b64encode(key.sign(start + body)).decode()


@lru_cache(maxsize=256)
def _private_key(secret: str) -> Ed25519PrivateKey:
    # It follows from the secret (HKDF, RFC 5869), so that one rotation changes both and nothing
    # more is to be kept. From the public key neither follows.
    seed = HKDF(hashes.SHA256(), 32, None, b"webhook-portal ed25519").derive(secret_bytes(secret))
    return Ed25519PrivateKey.from_private_bytes(seed)


def _keyed(key: bytes) -> HMAC:
    # Which takes a fifth less than the standard library's.
    return HMAC(key, hashes.SHA256())


def _digest(key: HMAC, start: bytes, body: bytes) -> bytes:
    mac = key.copy()
    # One after the other: a large body is not copied.
    mac.update(start)
    mac.update(body)
    return mac.finalize()
