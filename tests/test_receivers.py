"""What receivers copy: the programs of examples/verify, in every language, against vectors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal.signing import MAX_OLD_SECRETS, Signer, evox_sign, new_secret, sign

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples" / "verify"
PROGRAMS = {
    "verify.py": sys.executable,
    "verify.mjs": "node",
    "verify.php": "php",
    "verify.rb": "ruby",
    "verify.go": "go",
}

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIME, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
STANDARD = {"webhook-id": ID, "webhook-timestamp": str(TIME), "webhook-signature": SIGNATURE}

EVOX_SECRET, EVOX_TIME = "your_secret_key", 1690985830
EVOX_BODY = b'{"event_id":"evt_123","data":"test"}'
EVOX_SIGNATURE = "dcff92f9ac731d917f606e46d06e8124b0d59e9c5c6387533d5752f2c9ac7477"
EVOX = {"Evox-Time": str(EVOX_TIME), "Evox-Signature": EVOX_SIGNATURE}

Verify = Callable[..., bool]


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """verify.go, compiled once."""
    folder = tmp_path_factory.mktemp("go")
    subprocess.run(
        ["go", "build", "-o", folder / "verify", FOLDER / "verify.go"],
        check=True,
        timeout=300,
        env=os.environ | {"GOCACHE": str(folder / "cache"), "GO111MODULE": "off"},
    )
    return folder / "verify"


@pytest.fixture(
    # One process compiles, when the tests run in several.
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in PROGRAMS]
)
def verify(request: pytest.FixtureRequest) -> Verify:
    """`verify(secret, headers, body, now)`: what the program of a language says of a request."""
    interpreter = shutil.which(PROGRAMS[request.param])
    if interpreter is None:
        pytest.skip(f"{request.param} needs {PROGRAMS[request.param]}, which is not installed")
    command = [interpreter, str(FOLDER / request.param)]
    if request.param == "verify.go":
        command = [str(request.getfixturevalue("go_program"))]

    def run(secret: str, headers: dict[str, str], body: bytes, now: int) -> bool:
        done = subprocess.run(
            [*command, secret, *(f"{name}: {value}" for name, value in headers.items())],
            input=body,
            capture_output=True,
            timeout=30,
            env=os.environ | {"NOW": str(now)},
        )
        assert (done.returncode, done.stdout) in ((0, b"verified\n"), (1, b"refused\n")), (
            done.stderr.decode()
        )
        return done.returncode == 0

    return run


def test_a_standard_signature_is_verified(verify: Verify):
    assert verify(SECRET, STANDARD, BODY, TIME)
    assert verify(SECRET, STANDARD, BODY, TIME + 300)


def test_an_evox_signature_is_verified(verify: Verify):
    assert verify(EVOX_SECRET, EVOX, EVOX_BODY, EVOX_TIME)


def test_a_body_that_was_changed_is_refused(verify: Verify):
    assert not verify(SECRET, STANDARD, BODY.replace(b" ", b""), TIME)
    assert not verify(EVOX_SECRET, EVOX, EVOX_BODY + b"\n", EVOX_TIME)


def test_another_secret_is_refused(verify: Verify):
    assert not verify(new_secret(), STANDARD, BODY, TIME)
    assert not verify("another_secret_key", EVOX, EVOX_BODY, EVOX_TIME)


def test_a_request_more_than_five_minutes_old_or_early_is_refused(verify: Verify):
    for now in (TIME + 301, TIME - 301):
        assert not verify(SECRET, STANDARD, BODY, now)
    assert not verify(EVOX_SECRET, EVOX, EVOX_BODY, EVOX_TIME + 301)


def test_headers_that_are_missing_or_senseless_are_refused(verify: Verify):
    assert not verify(SECRET, STANDARD | {"webhook-timestamp": "soon"}, BODY, TIME)
    assert not verify(SECRET, STANDARD | {"webhook-signature": "v1"}, BODY, TIME)
    assert not verify(SECRET, {}, BODY, TIME)


def test_all_secrets_of_rotations_verify_what_the_portal_sends(verify: Verify):
    secrets = [new_secret() for _ in range(1 + MAX_OLD_SECRETS)]
    body = '{"name":"Zoë"}'.encode() + b"\xff"
    headers = dict(Signer(secrets).headers("evt_1", TIME, body))
    standard = {name: value for name, value in headers.items() if name.startswith("webhook-")}
    evox = {name: value for name, value in headers.items() if name.startswith("Evox-")}
    for secret in secrets:
        assert verify(secret, standard, body, TIME)
        assert verify(secret, evox, body, TIME)
    assert not verify(new_secret(), standard, body, TIME)
    assert not verify(new_secret(), evox, body, TIME)


def test_the_portal_signs_as_the_vectors_say():
    assert sign(SECRET, ID, TIME, BODY) == SIGNATURE
    assert evox_sign(EVOX_SECRET, EVOX_TIME, EVOX_BODY) == EVOX_SIGNATURE


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_document_for_receivers_holds_the_programs_as_they_are(name: str):
    language = {"mjs": "js", "py": "python", "rb": "ruby"}
    kind = name.partition(".")[2]
    block = f"```{language.get(kind, kind)}\n{(FOLDER / name).read_text()}```\n"
    assert block in (ROOT / "docs" / "receivers.md").read_text()


def test_the_readmes_few_lines_verify_too():
    text = (ROOT / "README.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["is_genuine"](SECRET, STANDARD, BODY)
    assert not names["is_genuine"](SECRET, STANDARD, BODY + b" ")
    assert not names["is_genuine"](new_secret(), STANDARD, BODY)
