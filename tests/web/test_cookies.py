"""The portal's own cookies, whatever else stands beside them."""

from __future__ import annotations

import time

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from portal.web import cookies


@pytest.mark.parametrize(
    ("header", "own"),
    [
        ("", {}),
        ("portal_session", {"portal_session": ""}),
        ("portal_session=a.b-c_d=", {"portal_session": "a.b-c_d="}),
        (
            "_ga=GA1.2; portal_theme=dark;portal_session=a; x",
            {"portal_theme": "dark", "portal_session": "a"},
        ),
        ("portal_session=a; portal_session=b", {"portal_session": "a"}),
        ("portal_session=\\; portal_session=b", {}),
        ("\t portal_session \t=  a  ", {"portal_session": "a"}),
        ('portal_session="a\\142\\c"', {"portal_session": "abc"}),
        ('portal_session="a', {}),
        ("portal_session=a b", {}),
        ("portal_session=\xe9", {}),
        ("Portal_Session=a; portal_session2=a; xportal_session=a", {}),
    ],
)
def test_they_are_found_among_others_as_browsers_send_them(header: str, own: dict[str, str]):
    assert cookies.own(header) == own


def test_the_application_sees_its_own_alone(app: Flask):
    seen: list[dict[str, str]] = []
    app.before_request(lambda: seen.append(dict(request.cookies)))
    client = app.test_client(use_cookies=False)
    for header in ("remember_token=1|a; portal_theme=dark", "_ga=1"):
        client.get("/sign-in", headers={"Cookie": header})
    assert seen == [{"portal_theme": "dark"}, {}]


@pytest.mark.parametrize(
    "cookie",
    [
        "a=" + " " * 16_000 + '"',
        "portal_session=" + " " * 16_000 + '"',
        "a;" * 8_000,
        "portal_session=a\\b;" * 1_000,
        'portal_session="' + "\\" * 16_000,
        'portal_session="' + "\\a" * 8_000 + '"',
        "portal_session" + " " * 16_000 + '"',
    ],
)
def test_none_takes_long_to_read(client: FlaskClient, cookie: str):
    client.get("/static/app.css")
    began = time.process_time()
    assert client.get("/sign-in", headers={"Cookie": cookie}).status_code == 200
    assert time.process_time() - began < 0.2
