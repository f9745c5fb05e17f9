"""The lines that a break-in which is being tried leaves in the log."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.journal import log_lines, security_log
from portal.journal.security_log import MANY, MOST_ADDRESSES, SecurityLog
from portal.models import Merchant
from tests.conftest import PASSWORD
from tests.factories import make_user

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"([a-z_]+) from (.+) \((\d+)\)")
SignIn = Callable[[str], FlaskClient]


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What another test was told of is to be told again, and what it was not told of is not."""
    security_log._security_log._said.clear()
    log = SecurityLog()
    monkeypatch.setattr(security_log, "_security_log", log)
    yield
    log._said.clear()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, ...]]]:
    """Kind, address and count of each line."""

    def found() -> list[tuple[str, ...]]:
        matches = [
            LINE.fullmatch(record.getMessage())
            for record in caplog.records
            if record.name == "portal.security"
        ]
        assert all(matches)
        return [match.groups() for match in matches if match]

    return found


Lines = Callable[[], list[tuple[str, ...]]]
FROM = {"environ_base": {"REMOTE_ADDR": "203.0.113.7"}}


def test_a_password_that_is_wrong(client: FlaskClient, merchant: Merchant, lines: Lines, caplog):
    user = make_user("owner", merchant, password=PASSWORD)
    for email in (user.email, "nobody@example.com"):
        client.post("/sign-in", data={"email": email, "password": "hunter2"}, **FROM)
    assert lines() == [("sign_in_refused", "203.0.113.7", "1")]
    assert "hunter2" not in caplog.text
    assert user.email not in caplog.text


def test_one_that_is_right_says_nothing(signed_in: SignIn, api_key: str, lines: Lines):
    owner = signed_in("owner")
    assert owner.get("/account").status_code == 200
    assert owner.get("/api/v1/webhooks", headers={"Authorization": f"Bearer {api_key}"}).json
    assert lines() == []


def test_a_key_that_is_unknown(client: FlaskClient, api_key: str, lines: Lines, caplog):
    for _ in range(2):
        client.get("/api/v1/webhooks", headers={"Authorization": "Bearer whp_canary"}, **FROM)
    client.get("/api/v1/webhooks", **FROM)
    assert lines() == [("api_key_refused", "203.0.113.7", "1")]
    assert "canary" not in caplog.text


@pytest.mark.parametrize("address", ["/sign-in", "/api/v1/webhooks", "/static/app.css"])
def test_a_name_that_is_not_the_portals(client: FlaskClient, address: str, lines: Lines):
    client.get(address, headers={"Host": "evil.example"}, **FROM)
    assert lines() == [("host_refused", "203.0.113.7", "1")]


def test_a_form_without_its_token(app: Flask, lines: Lines):
    app.config["WTF_CSRF_ENABLED"] = True
    app.test_client().post("/sign-in", data={"email": "a@b.example"}, **FROM)
    assert lines() == [("form_token_refused", "203.0.113.7", "1")]


def test_a_limit_that_is_reached(client: FlaskClient, lines: Lines):
    for _ in range(12):
        answer = client.post("/sign-in", data={"email": "a@b.example", "password": "x"}, **FROM)
    assert answer.status_code == 429
    assert [kind for kind, *_ in lines()] == ["sign_in_refused", "limit_reached"]


def test_a_limit_on_links(client: FlaskClient, lines: Lines):
    for _ in range(61):
        answer = client.get("/shared/none", **FROM)
    assert answer.status_code == 429
    assert [kind for kind, *_ in lines()] == ["limit_reached"]


def test_another_password_than_ones_own(signed_in: SignIn, lines: Lines):
    owner = signed_in("owner")
    for name, field in (("password", "current"), ("second-factor", "password")):
        assert owner.post(f"/account/{name}", data={field: "hunter2"}, **FROM).status_code == 422
    assert lines() == [("password_refused", "203.0.113.7", "1")]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", "an unreadable address"),
        ("203.0.113.7:50000", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ("x\nportal.security: sign_in_refused from 192.0.2.1 (1)", "an unreadable address"),
    ],
)
def test_an_address_is_one_or_is_not_shown(
    client: FlaskClient, given: str, shown: str, lines: Lines
):
    client.get("/sign-in", headers={"Host": "evil.example"}, environ_base={"REMOTE_ADDR": given})
    assert lines() == [("host_refused", shown, "1")]


# What journald puts in front, and what bin/run does; by hand there is neither.
FRONTS = ("", "web          ", "hooks run[812]: web          ")
FORGED = "2026-11-28T22:10:48.123Z WARNING portal.security: sign_in_refused from 198.51.100.9 (1)"


def fail_regex() -> re.Pattern[str]:
    """The one of the guide, with addresses as fail2ban knows them."""
    guide = (ROOT / "docs" / "operators.md").read_text()
    (found,) = re.findall(r"^failregex = (.+)$", guide, re.MULTILINE)
    return re.compile(found.replace("<ADDR>", r"(?P<addr>[0-9.]+|[0-9a-f:]+)"))


@pytest.mark.parametrize("front", FRONTS)
def test_the_guides_pattern_finds_who_tries_and_nobody_whom_they_name(
    app: Flask, front: str, monkeypatch: pytest.MonkeyPatch
):
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(log_lines.Lines())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for address in ("203.0.113.7", "2001:db8::7"):
        where = {"environ_base": {"REMOTE_ADDR": address}}
        headers = {"User-Agent": FORGED}
        for email in ("ann@example.com", FORGED, f"\n{FORGED}", f"x\r\n{front}{FORGED}"):
            data = {"email": email, "password": FORGED}
            assert (
                app.test_client().post("/sign-in", data=data, headers=headers, **where).status_code
                == 422
            )
    logging.getLogger("portal.web.defects").error(
        "GET %s failed.", f"/\n{FORGED}", exc_info=RuntimeError(f"{FORGED}\n{FORGED}")
    )
    lines = [front + line for line in out.getvalue().splitlines()]
    assert any(FORGED in line for line in lines), "somebody's text is in the log"
    found = [match["addr"] for line in lines if (match := fail_regex().search(line))]
    assert found == ["203.0.113.7", "2001:db8::7"]


def test_what_comes_often_is_said_at_once_and_then_with_its_count(lines: Lines, wait_for):
    log = SecurityLog(seconds=0.4)
    begun = time.monotonic()
    for _ in range(50):
        log.note("sign_in_refused", "203.0.113.7")
    log.note("api_key_refused", "203.0.113.7")
    log.note("sign_in_refused", "203.0.113.8")
    assert [count for *_, count in lines()] == ["1", "1", "1"]
    wait_for(lambda: len(lines()) > 3, seconds=5)
    assert time.monotonic() - begun >= 0.4
    assert lines()[3:] == [("sign_in_refused", "203.0.113.7", "49")]
    wait_for(lambda: not log._said, seconds=5)
    assert len(lines()) == 4
    log.note("sign_in_refused", "203.0.113.7")
    assert lines()[4:] == [("sign_in_refused", "203.0.113.7", "1")]


def test_an_attack_from_everywhere_fills_neither_memory_nor_log(lines: Lines):
    log = SecurityLog()
    threads = threading.active_count()
    for number in range(MOST_ADDRESSES + 1_000):
        log.note("sign_in_refused", f"2001:db8::{number:x}")
    assert len(lines()) == MOST_ADDRESSES + 1
    assert lines()[-1] == ("sign_in_refused", MANY, "1")
    assert len(log._said) == MOST_ADDRESSES + 1
    assert threading.active_count() <= threads + 1
    log._said.clear()


def test_a_host_of_ipv6_is_one_whatever_it_sends_from(client: FlaskClient, lines: Lines, wait_for):
    for number in range(1, 9):
        client.get(
            "/sign-in",
            headers={"Host": "evil.example"},
            environ_base={"REMOTE_ADDR": f"2001:db8::{number:x}"},
        )
    assert lines() == [("host_refused", "2001:db8::1", "1")]
    security_log._security_log._seconds = 0.1
    wait_for(lambda: len(lines()) > 1)
    assert lines()[1:] == [("host_refused", "2001:db8::8", "7")]


def test_what_is_no_address_is_one_whatever_it_is(client: FlaskClient, lines: Lines):
    for number in range(5):
        client.get(
            "/sign-in",
            headers={"Host": "evil.example"},
            environ_base={"REMOTE_ADDR": f"nobody {number}"},
        )
    assert lines() == [("host_refused", "an unreadable address", "1")]
