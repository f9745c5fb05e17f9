"""Headers that are not what their names say, from somebody who is not signed in."""

from __future__ import annotations

import random
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

DATES = ("If-Modified-Since", "If-Unmodified-Since", "If-Range", "Date")
STRANGE_DATES = (
    "Mon, 01 Jan 2020 00:00:00 +99999999999999999",
    "Mon, 01 Jan 99999999999 00:00:00 GMT",
    "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
)
SEEDS = range(4)
PIECES = {
    **dict.fromkeys(
        DATES,
        (
            *STRANGE_DATES,
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 01 Jan 0000 00:00:00 GMT",
            "Mon, 01 Jan 2020 00:00:00 -2400",
            '"an-etag"',
            'W/"',
            ", ,",
            "9" * 5_000,
        ),
    ),
    **dict.fromkeys(
        ("Referer", "Origin"),
        (
            "https://[",
            "https://localhost:x/",
            "https://localhost:99999999/",
            "https://localhost/",
            "null",
            "//",
            "https://\u2100/".encode().decode("latin-1"),
            "https://[::1%25]/",
            "\\",
            "[",
        ),
    ),
    "Range": ("bytes=0-1", "bytes=-" + "9" * 5_000, "bytes=5-1", "bytes=0-1,2-3", "=", "bytes=--"),
    **dict.fromkeys(
        ("Accept", "Accept-Encoding", "Accept-Language", "Accept-Charset"),
        (
            "gzip",
            "text/html;q=x",
            "*/*;q=" + "9" * 400,
            ";;",
            "a;b*0*=c",
            'a;b="',
            ",",
            "a;b=c," * 9,
        ),
    ),
    **dict.fromkeys(("If-None-Match", "If-Match"), ('"a', "*", "W/", ", ,", '""', 'W/"a", b')),
    "Content-Type": (
        "application/json",
        "application/x-www-form-urlencoded",
        "application/json; charset*=b",
        "multipart/form-data",
        "multipart/form-data; boundary=b",
        ";",
        "a*0*=;a*1*=b",
        "application/x-www-form-urlencoded; charset=utf-7",
    ),
}


@pytest.fixture
def over_https(app: Flask) -> FlaskClient:
    """Somebody whose forms are checked for their tokens as always."""
    app.config["WTF_CSRF_ENABLED"] = True
    app.testing = False
    return app.test_client()


def token_on(client: FlaskClient) -> str:
    page = client.get("/sign-in", base_url="https://localhost").text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


@pytest.mark.parametrize("date", STRANGE_DATES)
@pytest.mark.parametrize("name", DATES)
def test_a_date_that_is_none_is_as_if_it_was_not_sent(
    over_https: FlaskClient, name: str, date: str
):
    headers = {name: date} | ({"Range": "bytes=0-1"} if name == "If-Range" else {})
    answer = over_https.get("/static/app.css", headers=headers)
    assert answer.status_code == (206 if name == "If-Range" else 200)


def test_one_that_can_be_read_counts(over_https: FlaskClient):
    css = over_https.get("/static/app.css")
    for headers, status in (
        ({"If-Modified-Since": css.headers["Last-Modified"]}, 304),
        ({"Range": "bytes=0-1", "If-Range": css.headers["ETag"]}, 206),
        ({"Range": "bytes=0-1", "If-Range": '"another"'}, 200),
    ):
        assert over_https.get("/static/app.css", headers=headers).status_code == status


@pytest.mark.parametrize(
    "address", ["https://[", "https://localhost:x/", "https://localhost:99999999/"]
)
def test_a_form_from_what_is_no_address_is_refused(over_https: FlaskClient, address: str):
    answer = over_https.post(
        "/sign-in",
        base_url="https://localhost",
        headers={"Referer": address},
        data={"csrf_token": token_on(over_https), "email": "a@example.com", "password": "x"},
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_is_said_in_them_is_a_failure_of_the_portal(
    app: Flask, over_https: FlaskClient, seed: int
):
    chance = random.Random(seed)
    token = token_on(over_https)
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "1", rule.rule.replace("<path:filename>", "app.css"))
        for method in ("GET", "POST"):
            names = chance.sample(sorted(PIECES), chance.randint(1, 5))
            headers = {name: chance.choice(PIECES[name]) for name in names}
            body = f"csrf_token={token}" if chance.random() < 0.7 else "--b\r\n\r\n{}"
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            status = over_https.open(
                path, method=method, headers=headers, data=body, base_url="https://localhost"
            ).status_code
            # No worker lives here.
            assert status < 500 or path == "/readyz", (method, path, headers)
