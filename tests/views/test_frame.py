"""What all pages share: security headers, error pages, files, icons."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from portal.db.session import db
from portal.errors import Conflict
from portal.models import Merchant
from portal.web import access

SignIn = Callable[[str], FlaskClient]
ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "portal" / "templates"
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def failing(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """A portal with a page that fails as its address says: /fail/409."""

    def fail(how: str) -> str:
        if how == "refused":
            raise Conflict("Someone saved this <webhook> first; reload the page.")
        if how == "defect":
            raise RuntimeError("a secret detail")
        if how == "database":
            raise OperationalError("SELECT 1", {}, Exception("a secret detail"))
        abort(int(how))

    monkeypatch.setitem(access.ACCESS, "fail", access.PUBLIC)
    app.add_url_rule("/fail/<how>", "fail", fail)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


@pytest.mark.parametrize("path", ["/sign-in", "/no/such/page", "/static/app.css", "/healthz"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in headers


def test_pages_are_not_kept_by_browsers(client: FlaskClient) -> None:
    assert client.get("/sign-in").headers["Cache-Control"] == "no-store"


class TestBehindTls:
    """With PORTAL_SECURE_COOKIES=1."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SECURE_COOKIES": "1", "PUBLIC_URL": "https://hooks.example.com"}

    def test_browsers_are_told_to_stay_with_https(self, client: FlaskClient) -> None:
        headers = client.get("/sign-in").headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"


def test_files_whose_address_names_their_content_are_kept(client: FlaskClient) -> None:
    page = client.get("/sign-in").text
    files = re.findall(r'(?:href|src)="(/static/[^"#]+)', page)
    assert len(files) >= 4
    for file in files:
        answer = client.get(file)
        assert answer.status_code == 200, file
        assert "immutable" in answer.headers["Cache-Control"], file
        assert "Cookie" not in answer.headers.get("Vary", ""), file
        assert "Set-Cookie" not in answer.headers, file


def test_a_file_without_a_version_is_asked_for_again(client: FlaskClient) -> None:
    assert "immutable" not in client.get("/static/app.css").headers["Cache-Control"]


@pytest.mark.parametrize("version", ["1", "", "0123456789"])
def test_a_file_of_another_version_is_asked_for_again(client: FlaskClient, version: str) -> None:
    for file in (f"app.css?v={version}", f"vendor/../app.css?v={version}", "vendor/SHA256SUMS"):
        answer = client.get(f"/static/{file}")
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-cache", file


def test_a_file_is_kept_also_when_it_has_not_changed(client: FlaskClient) -> None:
    file = re.findall(r'href="(/static/app.css[^"#]+)', client.get("/sign-in").text)[0]
    tag = client.get(file).headers["ETag"]
    same = client.get(file, headers={"If-None-Match": tag})
    assert same.status_code == 304
    assert "immutable" in same.headers["Cache-Control"]
    part = client.get(file, headers={"Range": "bytes=0-9"})
    assert part.status_code == 206
    assert "immutable" not in part.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("method", "file", "status"),
    [
        ("GET", "none.css", 404),
        ("GET", "none.css?v=1", 404),
        ("GET", "vendor/none-1.0/x.js", 404),
        ("GET", "vendor/", 404),
        ("GET", "", 404),
        ("GET", "../wsgi.py", 404),
        ("GET", "\0.css?v=1", 404),
        ("POST", "app.css?v=1", 405),
        ("DELETE", "none.css", 405),
    ],
)
@pytest.mark.parametrize("headers", [{}, PART])
def test_an_error_where_files_are_shows_nobody_and_is_not_kept(
    app: Flask, signed_in: SignIn, method: str, file: str, status: int, headers: dict[str, str]
) -> None:
    client = signed_in("editor")
    app.config["WTF_CSRF_ENABLED"] = True
    answer = client.open(f"/static/{file}", method=method, headers=headers)
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.mimetype == "text/plain"
    assert len(answer.text) < 40
    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ("400", 400, "reload the page"),
        ("401", 401, "Sign in"),
        ("403", 403, "Ask an owner"),
        ("404", 404, "nothing at this address"),
        ("405", 405, "that kind of request"),
        ("409", 409, "Reload"),
        ("413", 413, "larger"),
        ("415", 415, "kind"),
        ("429", 429, "Wait a minute"),
        ("500", 500, "in its log"),
        ("503", 503, "few seconds"),
        ("418", 418, "teapot"),
        ("refused", 409, "Someone saved this &lt;webhook&gt; first"),
        ("defect", 500, "in its log"),
        ("database", 500, "in its log"),
    ],
)
def test_each_failure_has_a_page_that_says_what_to_do(
    failing: Flask, how: str, status: int, says: str
) -> None:
    page = failing.test_client().get(f"/fail/{how}")
    assert page.status_code == status
    assert "<html" in page.text
    assert says in page.text
    assert "secret detail" not in page.text
    assert "Traceback" not in page.text


def test_an_error_page_leads_on(failing: Flask) -> None:
    client = failing.test_client()
    assert 'href="/fail/503">Try again' in client.get("/fail/503").text
    assert "Try again</a>" not in client.get("/fail/404").text
    here = {"Referer": "http://localhost/m/alice/webhooks?x=1"}
    assert 'href="/m/alice/webhooks?x=1">Back' in client.post("/nowhere", headers=here).text
    there = {"Referer": "http://elsewhere.example/"}
    assert "elsewhere" not in client.post("/nowhere", headers=there).text


def test_busy_says_when_to_try_again(failing: Flask) -> None:
    assert failing.test_client().get("/fail/503").headers["Retry-After"] == "5"


def test_a_failure_in_a_part_is_a_message_on_top_of_the_page(failing: Flask) -> None:
    answer = failing.test_client().get("/fail/refused", headers=PART)
    assert answer.status_code == 409
    assert "<html" not in answer.text
    assert "Someone saved this" in answer.text
    assert answer.headers["HX-Retarget"] == "#messages"


def test_a_database_that_is_away_still_leaves_a_page(
    failing: Flask, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in("editor")

    def away(*_args: object, **_kwargs: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)

    for name in ("get", "scalar", "scalars", "execute"):
        monkeypatch.setattr(db.session, name, away)
    page = client.get("/m/alice/")
    assert page.status_code == 503
    assert "few seconds" in page.text
    assert "Sign out" not in page.text


class TestTokens:
    """With the CSRF check, which other tests go without."""

    @pytest.fixture
    def strict(self, app: Flask) -> FlaskClient:
        app.config["WTF_CSRF_ENABLED"] = True
        return app.test_client()

    def test_a_form_without_its_token_is_refused(self, strict: FlaskClient) -> None:
        page = strict.post("/sign-in", data={"email": "a@example.com", "password": "x"})
        assert page.status_code == 400
        assert "This form has expired" in page.text

    def test_a_form_sent_after_the_sign_in_ended_leads_to_it_and_back(
        self, strict: FlaskClient
    ) -> None:
        here = {"Referer": "http://localhost/m/alice/webhooks?x=1"}
        for headers in (here, {"Referer": "http://elsewhere.example/m/alice/"}, {}):
            answer = strict.post("/m/alice/webhooks", headers=headers)
            assert answer.status_code == 303
            back = "?next=/m/alice/webhooks?x%3D1" if headers is here else ""
            assert answer.location == f"/sign-in{back}"
        part = strict.post("/m/alice/webhooks", headers=PART | {"HX-Current-URL": here["Referer"]})
        assert part.status_code == 401
        assert part.headers["HX-Redirect"] == "/sign-in?next=/m/alice/webhooks?x%3D1"

    def test_htmx_sends_the_token_of_the_page_in_a_header(self, strict: FlaskClient) -> None:
        page = strict.get("/sign-in").text
        found = re.search(r"""hx-headers:inherited='\{"X-CSRFToken": "([^"]+)"\}'""", page)
        assert found
        answer = strict.post(
            "/sign-in",
            data={"email": "a@example.com", "password": "x"},
            headers={"X-CSRFToken": found[1]},
        )
        assert answer.status_code != 400


def test_files_come_compressed_and_pages_do_not(client: FlaskClient) -> None:
    plain = client.get("/static/app.css")
    small = client.get("/static/app.css", headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(small.data) == plain.data
    assert len(small.data) == int(small.headers["Content-Length"]) < len(plain.data) / 3
    assert "Accept-Encoding" in plain.headers["Vary"]
    again = client.get(
        "/static/app.css",
        headers={"Accept-Encoding": "gzip", "If-None-Match": small.headers["ETag"]},
    )
    assert again.status_code == 304
    page = client.get("/sign-in", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in page.headers


@pytest.mark.parametrize(
    ("cookie", "attribute"),
    [("dark", ' data-theme="dark"'), ("light", ' data-theme="light"'), ('x" onload="', "")],
)
def test_a_chosen_theme_is_painted_by_the_server(
    client: FlaskClient, cookie: str, attribute: str
) -> None:
    client.set_cookie("portal_theme", cookie)
    assert f'<html lang="en"{attribute}>' in client.get("/sign-in").text


def test_staff_and_members_see_their_own_navigation(signed_in: SignIn, merchant: Merchant) -> None:
    member = signed_in("viewer").get("/m/alice/").text
    db.session.rollback()
    staff = signed_in("auditor")
    assert "/m/alice/attempts" in member
    assert "/staff/" not in member
    assert "/m/alice/attempts" not in staff.get("/staff/users").text
    both = staff.get("/m/alice/").text
    assert "/m/alice/attempts" in both
    assert "/staff/audit" in both


def test_no_template_has_inline_script_or_style() -> None:
    for template in TEMPLATES.rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:", text), template
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), template
        # htmx evaluates these, which the policy forbids.
        assert not re.search(r"""hx-(vals|headers|confirm)=["']js:""", text), template


def test_the_sprite_holds_just_the_icons_in_use() -> None:
    drawn = set(re.findall(r'<symbol id="([^"]+)"', (ROOT / "static" / "icons.svg").read_text()))
    sources = [
        *TEMPLATES.rglob("*.html"),
        ROOT / "static" / "app.js",
        ROOT / "portal" / "webhooks" / "recipes.toml",
    ]
    words = set(re.findall(r"['#]([a-z0-9-]+)[\"'/]", " ".join(p.read_text() for p in sources)))
    called = {
        name
        for source in sources
        for name in re.findall(r"\bicon\('([a-z0-9-]+)'", source.read_text())
    }
    assert called <= drawn
    assert drawn <= words


def test_vendored_files_are_what_was_vendored() -> None:
    vendor = ROOT / "static" / "vendor"
    sums = (vendor / "SHA256SUMS").read_text().splitlines()
    assert len(sums) == 2
    for line in sums:
        digest, name = line.split()
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest
        assert (vendor / name).parent.joinpath("LICENSE").exists()


def test_a_page_or_part_that_changes_nothing_leaves_the_session_cookie_alone(
    merchant: Merchant, signed_in: SignIn
) -> None:
    # A part that answers after a save would otherwise bring back the session from before it.
    client = signed_in("owner")
    address = f"/m/{merchant.slug}/events"
    client.get(address)
    for headers in ({}, PART):
        assert "Set-Cookie" not in client.get(address, headers=headers).headers
