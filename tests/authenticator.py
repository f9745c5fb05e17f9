"""A device with a passkey: what a browser's navigator.credentials answers, made by hand."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import bytes_to_base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


class Authenticator:
    """One passkey (ES256) that counts what it signs. `origin` is of the page that it believes
    to be on."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.count = 0
        self.credential = secrets.token_bytes(32)
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any]) -> str:
        """The answer to options of creation."""
        numbers = self._key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + struct.pack(">H", 32) + self.credential + cbor2.dumps(key)
        data = self._data(options["rp"]["id"], PRESENT | VERIFIED | ATTESTED) + attested
        return self._answer({
            "clientDataJSON": self._client(options, "webauthn.create"),
            "attestationObject": cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data}),
        })

    def get(self, options: dict[str, Any]) -> str:
        """The answer to options of a request."""
        self.count += 1
        data = self._data(options["rpId"], PRESENT | VERIFIED)
        client = self._client(options, "webauthn.get")
        signed = data + hashlib.sha256(client).digest()
        return self._answer({
            "clientDataJSON": client, "authenticatorData": data,
            "signature": self._key.sign(signed, ec.ECDSA(hashes.SHA256())),
        })

    def _data(self, name: str, flags: int) -> bytes:
        return hashlib.sha256(name.encode()).digest() + struct.pack(">BI", flags, self.count)

    def _client(self, options: dict[str, Any], kind: str) -> bytes:
        return json.dumps({
            "type": kind, "challenge": options["challenge"], "origin": self.origin,
        }).encode()

    def _answer(self, response: dict[str, bytes]) -> str:
        name = bytes_to_base64url(self.credential)
        return json.dumps({
            "id": name, "rawId": name, "type": "public-key", "clientExtensionResults": {},
            "response": {key: bytes_to_base64url(value) for key, value in response.items()},
        })
