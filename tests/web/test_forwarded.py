"""Whom a request is counted for that came through proxies (PORTAL_PROXIES)."""

from __future__ import annotations

import time

import pytest
from flask import Flask

from portal.web import proxies
from portal.web.proxies import passed_on


@pytest.fixture
def settings() -> dict[str, str]:
    return {"PROXIES": "1", "API_WRONG_KEYS": "2"}


@pytest.mark.parametrize(
    ("named", "count", "client"),
    [
        ("192.0.2.1", 1, "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", 1, "192.0.2.1"),
        ("198.51.100.7,192.0.2.1, 10.0.0.1", 2, "192.0.2.1"),
        ("192.0.2.1", 2, None),
        ("", 1, None),
        (", ,192.0.2.1,", 1, "192.0.2.1"),
        (" 2001:db8::1 ", 1, "2001:db8::1"),
        ('", 192.0.2.1', 1, "192.0.2.1"),
        ('"a, "\\, 192.0.2.1', 1, "192.0.2.1"),
        ('"a, 192.0.2.1, 10.0.0.1', 2, "192.0.2.1"),
    ],
)
def test_what_the_proxies_have_added_counts_whatever_was_there_before(
    named: str, count: int, client: str | None
):
    assert passed_on(named, count) == client


@pytest.mark.parametrize("said", ["," * 60_000, " ," * 30_000, "a," * 30_000, "a" * 60_000 + ","])
@pytest.mark.parametrize("count", [1, 2])
def test_whatever_was_there_before_is_not_read(said: str, count: int):
    added = "192.0.2.1, 10.0.0.1" if count == 2 else "192.0.2.1"
    began = time.process_time()
    for _ in range(1_000):
        assert passed_on(said + added, count) == "192.0.2.1"
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("said", ["", "198.51.100.7, ", '", ', '"a, ', "\\, ", '""", x, '])
def test_who_tries_keys_is_found_behind_whatever_they_say(app: Flask, said: str):
    def status(address: str) -> int:
        return (
            app.test_client()
            .get(
                "/api/v1/webhooks",
                headers={"Authorization": "Bearer whp_1", "X-Forwarded-For": f"{said}{address}"},
            )
            .status_code
        )

    assert [status("192.0.2.1") for _ in range(3)] == [401, 401, 429]
    assert status("192.0.2.2") == 401


@pytest.mark.parametrize(
    ("named", "scheme"),
    [
        ("https", "https"),
        ("http, https", "https"),
        ('", https', "https"),
        ("https, http", "http"),
        ("", "http"),
        ("javascript", "http"),
    ],
)
def test_the_scheme_is_the_one_that_came_to_the_proxy(named: str, scheme: str):
    seen = []
    behind = proxies.add_to(lambda environ, _: seen.append(environ["wsgi.url_scheme"]) or [], 1)
    behind({"HTTP_X_FORWARDED_PROTO": named, "wsgi.url_scheme": "http"}, lambda *_: None)
    assert seen == [scheme]
