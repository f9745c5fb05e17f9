"""Signing in over plain HTTP where cookies go over HTTPS only."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from flask import Flask


@pytest.fixture
def settings() -> dict[str, str]:
    return {"PUBLIC_URL": "https://hooks.example.com", "PROXIES": "1"}


@pytest.fixture(autouse=True)
def _with_tokens(app: Flask) -> None:
    app.config["WTF_CSRF_ENABLED"] = True


def sign_in(app: Flask, address: str, **headers: str):
    """What the form of the sign-in page is answered."""
    client = app.test_client()
    page = client.get("/sign-in", base_url=address, headers=headers)
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found is not None
    assert "; Secure;" in page.headers["Set-Cookie"]
    if address.startswith("http://"):
        # Browsers do not keep such a cookie, which Werkzeug's client does.
        client.delete_cookie("portal_session", domain=urlsplit(address).hostname or "")
    headers |= {"Referer": f"{address}/sign-in"}
    return client.post(
        "/sign-in",
        base_url=address,
        headers=headers,
        data={"csrf_token": found[1], "email": "ann@example.com", "password": "hunter2"},
    )


def test_the_page_says_what_to_open_instead(app: Flask):
    answer = sign_in(app, "http://127.0.0.1:8000")
    assert answer.status_code == 400
    assert "This needs HTTPS" in answer.text
    assert "https://hooks.example.com" in answer.text
    assert "expired" not in answer.text
    assert "hunter2" not in answer.text


def test_a_proxy_that_says_http_is_named(app: Flask):
    answer = sign_in(app, "http://hooks.example.com", **{"X-Forwarded-Proto": "http"})
    assert "X-Forwarded-Proto" in answer.text


def test_over_https_the_password_is_looked_at(app: Flask):
    answer = sign_in(app, "https://hooks.example.com", **{"X-Forwarded-Proto": "https"})
    assert answer.status_code == 422
    assert "The address or the password is wrong." in answer.text


def test_over_https_a_cookie_that_is_gone_is_an_expired_form(app: Flask):
    answer = app.test_client().post(
        "/sign-in",
        base_url="https://hooks.example.com",
        headers={"X-Forwarded-Proto": "https", "Referer": "https://hooks.example.com/sign-in"},
        data={"csrf_token": "x", "email": "ann@example.com"},
    )
    assert answer.status_code == 400
    assert "This form has expired" in answer.text
