"""Signatures of requests: Standard Webhooks 1.0.0 and EvolutionX's own, side by side.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX, PUBLIC_PREFIX = "whsec_", "whpk_"
SECRET_BYTES = 32
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""The length of a secret as the Standard Webhooks specification allows it."""
MAX_OLD_SECRETS = 5
"""Secrets that were replaced and still sign."""
EVOX_HEADERS = (
    "Evox-Signature", "Evox-Signature-Old",
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
    return _standard(_keyed(secret_bytes(secret)), message_id, timestamp, body)


def sign_ed25519(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One `webhook-signature` entry: `v1a,` and base64 of the Ed25519 signature (RFC 8032) over
    `id.timestamp.body`, made with the private key that follows from the secret."""
    return _asymmetric(_private_key(secret), message_id, timestamp, body)


def public_key(secret: str) -> str:
    """What verifies `sign_ed25519` and can sign nothing: `whpk_` and base64 of 32 bytes."""
    return PUBLIC_PREFIX + base64.b64encode(
        _private_key(secret).public_key().public_bytes_raw()
    ).decode()


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
        evox_content = b"%d.%b" % (timestamp, body)
        time = str(timestamp)
        headers = [
            ("webhook-id", message_id),
            ("webhook-timestamp", time),
            ("webhook-signature", " ".join(self._standard(message_id, timestamp, body))),
            ("Evox-Time", time),
        ]
        for name, (key, _) in zip(EVOX_HEADERS, self._keys, strict=False):
            headers.append((name, _digest(key, evox_content).hex()))
        return headers

    def _standard(self, message_id: str, timestamp: int, body: bytes) -> Iterator[str]:
        for _, key in self._keys:
            yield _standard(key, message_id, timestamp, body)
        for private_key in self._private_keys:
            yield _asymmetric(private_key, message_id, timestamp, body)


def _standard(key: hmac.HMAC, message_id: str, timestamp: int, body: bytes) -> str:
    content = _content(message_id, timestamp, body)
    return "v1," + base64.b64encode(_digest(key, content)).decode()


def _asymmetric(key: Ed25519PrivateKey, message_id: str, timestamp: int, body: bytes) -> str:
    content = _content(message_id, timestamp, body)
    return "v1a," + base64.b64encode(key.sign(content)).decode()


def _content(message_id: str, timestamp: int, body: bytes) -> bytes:
    return b"%b.%d.%b" % (message_id.encode(), timestamp, body)


@lru_cache(maxsize=256)
def _private_key(secret: str) -> Ed25519PrivateKey:
    # It follows from the secret (HKDF, RFC 5869), so that one rotation changes both and nothing
    # more is to be kept. From the public key neither follows.
    seed = HKDF(hashes.SHA256(), 32, None, b"webhook-portal ed25519").derive(secret_bytes(secret))
    return Ed25519PrivateKey.from_private_bytes(seed)


def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)


def _digest(key: hmac.HMAC, content: bytes) -> bytes:
    mac = key.copy()
    mac.update(content)
    return mac.digest()
