"""Forms are bounded before anything reads them, for whoever sends them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.web import form_limits

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def guarded(app: Flask) -> FlaskClient:
    """Somebody who is not signed in, with forms checked for their tokens as always."""
    app.config["WTF_CSRF_ENABLED"] = True
    return app.test_client()


@pytest.mark.parametrize(
    "path",
    ["/sign-in", "/forgot-password", "/m/alice/webhooks/new", "/m/alice/settings/keys", "/nowhere"],
)
@pytest.mark.parametrize("body", ["a&" * 8_000_000, "a=b&" * 1_000_000, "a" * 3_000_000])
@pytest.mark.parametrize("declared", [True, False])
def test_a_form_bomb_is_refused_unread(
    guarded: FlaskClient, path: str, body: str, declared: bool
) -> None:
    chunked = {} if declared else {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    answer = guarded.post(path, data=body, content_type=FORM, environ_overrides=chunked)
    assert answer.status_code == 413
    assert "larger" in answer.text


def test_a_form_with_too_many_fields_is_refused_and_says_so(guarded: FlaskClient) -> None:
    answer = guarded.post("/sign-in", data="a&" * form_limits.MAX_FIELDS, content_type=FORM)
    assert answer.status_code == 413
    assert "at most 1,000 fields" in answer.text
    answer = guarded.post("/sign-in", data="a&" * 998 + "a", content_type=FORM)
    assert answer.status_code == 400, "what it lacks is the token"


@pytest.mark.parametrize("path", ["/sign-in", "/m/alice/webhooks", "/nowhere", "/csp-reports"])
@pytest.mark.parametrize("boundary", ["b", "b" * 60_000])
def test_a_form_in_parts_is_refused_unread(guarded: FlaskClient, path: str, boundary: str) -> None:
    part = f"--{boundary}\r\nContent-Disposition: form-data\r\n\r\nx\r\n--{boundary}--\r\n"
    re.purge()
    before = len(re._cache)  # type: ignore[attr-defined]
    answer = guarded.post(path, data=part, content_type=f"multipart/form-data; boundary={boundary}")
    assert answer.status_code == 415
    assert "of this kind" in answer.text
    kept = list(re._cache)[before:]  # type: ignore[attr-defined]
    assert not [key for key in kept if len(key[1]) > 10_000], "a pattern of its boundary is kept"


def test_the_largest_webhook_that_the_rules_allow_fits_its_form(
    signed_in: Callable[[str], FlaskClient],
) -> None:
    form: dict[str, str | list[str]] = {
        "url": "https://example.com/hook",
        "method": "POST",
        "events": ["order.*"],
        "body_template": "ü" * 32_000,
    }
    for number in range(50):
        form[f"headers-{number}-name"] = f"X-Header-{number}"
        form[f"headers-{number}-value"] = "%" * 6_000
    answer = signed_in("editor").post("/m/alice/webhooks", data=form)
    assert answer.status_code in (303, 422), answer.text
    assert "at most 1,000 fields" not in answer.text
