"""Signatures are the ones that both specifications publish, and that their libraries accept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier

from portal.signing import (
    Signer,
    evox_sign,
    new_secret,
    public_key,
    secret_bytes,
    sign,
    sign_ed25519,
)

ROOT = Path(__file__).resolve().parent.parent


def test_the_published_standard_webhooks_vector_is_reproduced():
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_evox_vector_is_reproduced():
    signature = evox_sign("your_secret_key", 1690985830, b'{"event_id":"evt_123","data":"test"}')
    assert signature == "dcff92f9ac731d917f606e46d06e8124b0d59e9c5c6387533d5752f2c9ac7477"


def test_a_request_is_accepted_by_the_standard_webhooks_library_and_by_evox_receivers():
    secret, timestamp, body = new_secret(), int(time.time()), '{"total":"9,50 €"}'.encode()
    headers = dict(Signer([secret]).headers("evt_1", timestamp, body))
    assert Verifier(secret).verify(body.decode(), headers) == {"total": "9,50 €"}
    expected = hmac.new(
        secret.encode(), headers["Evox-Time"].encode() + b"." + body, hashlib.sha256
    ).hexdigest()
    assert headers["Evox-Signature"] == expected


def test_while_a_secret_rotates_receivers_with_either_one_accept_the_request():
    new, old, timestamp = new_secret(), new_secret(), int(time.time())
    headers = dict(Signer([new, old]).headers("evt_1", timestamp, b'{"a":1}'))
    for secret in (new, old):
        assert Verifier(secret).verify('{"a":1}', headers) == {"a": 1}
    assert headers["Evox-Signature"] == evox_sign(new, timestamp, b'{"a":1}')
    assert headers["Evox-Signature-Old"] == evox_sign(old, timestamp, b'{"a":1}')


def test_a_new_secret_holds_32_random_bytes():
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert all(len(secret_bytes(secret)) == 32 for secret in secrets)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_not base64!",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
    ],
)
def test_what_is_no_secret_is_refused(secret: str):
    with pytest.raises(ValueError, match="secret"):
        secret_bytes(secret)


def verified(key: str, headers: dict[str, str], body: bytes, now: int) -> bool:
    """What examples/verify/public_key.py says."""
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "examples" / "verify" / "public_key.py",
            key,
            *(f"{name}: {value}" for name, value in headers.items()),
        ],
        input=body,
        capture_output=True,
        timeout=30,
        env=os.environ | {"NOW": str(now)},
    )
    assert (done.returncode, done.stdout) in ((0, b"verified\n"), (1, b"refused\n")), done.stderr
    return done.returncode == 0


def test_a_public_key_verifies_what_its_secret_signed_and_nothing_else():
    new, old, timestamp, body = new_secret(), new_secret(), int(time.time()), b'{"a":1}'
    headers = dict(Signer([new, old], ed25519=True).headers("evt_1", timestamp, body))
    for secret in (new, old):
        assert Verifier(secret).verify('{"a":1}', headers) == {"a": 1}, "v1 is there as before"
        assert verified(public_key(secret), headers, body, timestamp)
    assert headers["webhook-signature"].split()[2] == sign_ed25519(new, "evt_1", timestamp, body)
    key = public_key(new)
    assert not verified(public_key(new_secret()), headers, body, timestamp)
    assert not verified(key, headers, b'{"a":2}', timestamp)
    assert not verified(key, headers | {"webhook-id": "evt_2"}, body, timestamp)
    assert not verified(key, headers, body, timestamp + 301)
    plain = dict(Signer([new]).headers("evt_1", timestamp, body))
    assert not verified(key, plain, body, timestamp)


def test_the_key_pair_of_a_secret_stays_the_same():
    # Receivers keep the public key for years.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert public_key(secret) == "whpk_lJ0Ul+FvwEPWlGPZ0fRl6m8z1nyPXcilHfssJHuce+E="
    assert sign_ed25519(secret, "msg_1", 1614265330, b"{}") == (
        "v1a,RC/5Ztoc4Op3JGcPbtUtP/K6ik+KKA3531XD5wV40ml7rofK"
        "G6lN/XuJhUn335peSwj7JC825T3wjJPNOxX3Ag=="
    )
