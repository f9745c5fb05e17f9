"""A device with a passkey: what a browser's navigator.credentials answers, made by hand."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from collections.abc import Callable
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import bytes_to_base64url

PRESENT, VERIFIED, ATTESTED, EXTENDED = 0x01, 0x04, 0x40, 0x80


class Authenticator:
    """One passkey (ES256) that counts what it signs. `origin` is of the page that it believes
    to be on."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.count = 0
        self.credential = secrets.token_bytes(32)
        self.extensions = b""
        self.signs_itself = False
        self.attest: Callable[[bytes], bytes] | None = None
        """What makes an attestation object of authenticator data, in place of its own."""
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any]) -> str:
        """The answer to options of creation."""
        numbers = self._key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + struct.pack(">H", 32) + self.credential + cbor2.dumps(key)
        data = self._data(options["rp"]["id"], PRESENT | VERIFIED | ATTESTED) + attested
        client = self._client(options, "webauthn.create")
        fmt, statement = "none", {}
        if self.signs_itself:
            signature = self._sign(data + hashlib.sha256(client).digest())
            fmt, statement = "packed", {"alg": -7, "sig": signature}
        told = cbor2.dumps({"fmt": fmt, "attStmt": statement, "authData": data})
        return self._answer(
            {
                "clientDataJSON": client,
                "attestationObject": self.attest(data) if self.attest else told,
            }
        )

    def get(self, options: dict[str, Any]) -> str:
        """The answer to options of a request."""
        self.count += 1
        flags = PRESENT | VERIFIED | (EXTENDED if self.extensions else 0)
        data = self._data(options["rpId"], flags) + self.extensions
        client = self._client(options, "webauthn.get")
        signed = data + hashlib.sha256(client).digest()
        return self._answer(
            {"clientDataJSON": client, "authenticatorData": data, "signature": self._sign(signed)}
        )

    def _sign(self, signed: bytes) -> bytes:
        return self._key.sign(signed, ec.ECDSA(hashes.SHA256()))

    def _data(self, name: str, flags: int) -> bytes:
        return hashlib.sha256(name.encode()).digest() + struct.pack(">BI", flags, self.count)

    def _client(self, options: dict[str, Any], kind: str) -> bytes:
        return json.dumps(
            {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        ).encode()

    def _answer(self, response: dict[str, bytes]) -> str:
        name = bytes_to_base64url(self.credential)
        return json.dumps(
            {
                "id": name,
                "rawId": name,
                "type": "public-key",
                "clientExtensionResults": {},
                "response": {key: bytes_to_base64url(value) for key, value in response.items()},
            }
        )
