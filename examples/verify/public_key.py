"""Verify a webhook request with the webhook's public key (v1a, Ed25519). Needs `cryptography`.

    python3 public_key.py whpk_… "webhook-id: evt_…" "webhook-timestamp: 1763930001" \\
      "webhook-signature: v1,… v1a,…" < body.json

`headers` has lower-case names, `body` is the raw bytes as they came in.
"""

import base64
import os
import sys
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE = 5 * 60  # seconds that a clock may be off, or a copied request may be old


def verify(public_key, headers, body, now):
    """Whether the holder of the private key sent this request within the tolerance."""
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE:
        return False
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    content = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    for entry in headers.get("webhook-signature", "").split(" "):
        version, _, signature = entry.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(signature), content)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


if __name__ == "__main__":
    given = dict(line.split(": ", 1) for line in sys.argv[2:])
    names = {name.lower(): value for name, value in given.items()}
    clock = int(os.environ.get("NOW", time.time()))
    fits = verify(sys.argv[1], names, sys.stdin.buffer.read(), clock)
    print("verified" if fits else "refused")
    sys.exit(0 if fits else 1)
