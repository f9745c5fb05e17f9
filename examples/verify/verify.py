"""Verify a webhook request: Standard Webhooks, or Evox. Python 3.9+, standard library only.

`headers` has lower-case names, `body` is the raw bytes as they came in.
"""

import base64
import hashlib
import hmac
import os
import re
import sys
import time

TOLERANCE = 5 * 60  # seconds that a clock may be off, or a copied request may be old


def verify_standard(secret, headers, body, now=None):
    """Whether one of the signatures in webhook-signature was made with this secret."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not is_recent(timestamp, now):
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, signature) for signature in given)


def verify_evox(secret, headers, body, now=None):
    """The same with Evox-Time and Evox-Signature; the key is the secret's text as it stands."""
    timestamp = headers.get("evox-time", "")
    if not is_recent(timestamp, now):
        return False
    content = f"{timestamp}.".encode() + body
    expected = hmac.digest(secret.encode(), content, hashlib.sha256).hex().encode()
    # While secrets rotate, evox-signature-old, -old-2 and so on are signed with those before it.
    given = [value.encode() for name, value in headers.items() if name.startswith("evox-signature")]
    return any(hmac.compare_digest(expected, signature) for signature in given)


def is_recent(timestamp, now):
    """Whether a timestamp in Unix seconds is at most TOLERANCE away from now."""
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        return False
    return abs((time.time() if now is None else now) - int(timestamp)) <= TOLERANCE


if __name__ == "__main__":
    # verify.py SECRET "webhook-id: …" "webhook-timestamp: …" "webhook-signature: …" < body
    secret, *lines = sys.argv[1:]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    now = int(os.environ["NOW"]) if "NOW" in os.environ else None
    verify = verify_standard if "webhook-signature" in headers else verify_evox
    verified = verify(secret, headers, sys.stdin.buffer.read(), now)
    print("verified" if verified else "refused")
    sys.exit(0 if verified else 1)
