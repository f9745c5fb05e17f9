"""Every field of every form of every page takes what nobody should send: nothing breaks, and what
is refused stores nothing.

The forms are read out of the pages themselves, for all addresses of the URL map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import quote, quote_plus

import pytest
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from portal.models import Merchant
from portal.web.extensions import limiter
from tests.conftest import on_both_databases
from tests.views import test_matrix
from tests.views.test_matrix import World, methods_of, tables

world = test_matrix.world

WRONG = {
    "NUL": b"a%00b",
    "a surrogate": b"%ED%A0%80",
    "no UTF-8": b"%FF%FE%80",
    "a control": b"%1B%5B1m",
    "1 MiB": b"x" * 1_048_576,
    "negative": b"-1",
    "too large": b"9" * 40,
    "no number": b"1e400",
    "JSON": b"%7B%22a%22%3A%5B1%5D%7D",
    "a path": b"..%2F..%2Fetc%2Fpasswd",
    "empty": b"",
    "lines": b"a%0D%0Ab",
    "half an escape": b"%",
    "right to left": b"%E2%80%AEabc",
}
LEAVES = ("sign-out", "/second-factor", "/sign-ins", "/password")
"""Forms that would end the sign-in of who tries them come last."""


@dataclass
class Form:
    """A form as a browser sees it: where it goes, and what it would send."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.forms: list[Form] = []
        self._select = ""

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in pairs}
        if tag == "form":
            method = said.get("method", "get").upper()
            if method != "DIALOG":
                self.forms.append(Form(method, said.get("action", self.page)))
        elif not self.forms or said.get("name") == "csrf_token":
            return
        elif tag in ("input", "textarea", "select", "button") and said.get("name"):
            self._select = said["name"] if tag == "select" else ""
            if said.get("type") not in ("checkbox", "radio") or "checked" in said:
                self.forms[-1].fields.setdefault(said["name"], said.get("value", ""))
            else:
                self.forms[-1].fields.setdefault(said["name"], said.get("value", "on"))
        elif tag == "option" and self._select and "selected" in said:
            self.forms[-1].fields[self._select] = said.get("value", "")


def forms_of(world: World, client: FlaskClient) -> list[Form]:
    """Each form that this person sees, once for its address and fields."""
    found: dict[tuple[str, str], Form] = {}
    pages = [world.path(rule, "alice") for rule in world.rules() if "GET" in methods_of(rule)]
    for path in [*pages, "/m/alice/webhooks/new?recipe=erp"]:
        answer = client.get(path)
        if answer.mimetype == "text/html":
            reader = _Reader(path)
            reader.feed(answer.text)
            for form in reader.forms:
                known = found.setdefault((form.method, form.action.partition("?")[0]), form)
                known.fields |= form.fields
        answer.close()
    return sorted(found.values(), key=lambda form: any(word in form.action for word in LEAVES))


def encoded(fields: dict[str, str], name: str, wrong: bytes) -> bytes:
    """The fields as they would be sent, but one with the wrong bytes."""
    return b"&".join(
        quote_plus(one).encode() + b"=" + (wrong if one == name else quote_plus(value).encode())
        for one, value in fields.items()
    )


def send(client: FlaskClient, form: Form, raw: bytes) -> int:
    if form.method == "GET":
        if len(raw) > 65_536:
            raw = raw[:65_536]
        path = form.action.partition("?")[0]
        answer = client.get(path, query_string=raw.decode("ascii"))
    else:
        answer = client.post(
            form.action, data=raw, content_type="application/x-www-form-urlencoded"
        )
    answer.close()
    return answer.status_code


@pytest.mark.whole
@pytest.mark.parametrize("person", ["owner", "operator"])
def test_no_field_of_any_form_breaks_a_page(
    world: World, person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "enabled", False)
    client = world.clients[person]
    forms = forms_of(world, client)
    broken, left_behind, tried = [], [], 0
    stored = tables()
    for form in forms:
        for name in form.fields:
            for kind, wrong in WRONG.items():
                tried += 1
                status = send(client, form, encoded(form.fields, name, wrong))
                if status >= 500:
                    broken.append((form.method, form.action, name, kind, status))
                if form.method == "GET":
                    continue
                before, stored = stored, tables()
                if status >= 400 and stored != before:
                    left_behind.append((form.action, name, kind, status))
    assert broken == []
    assert left_behind == []
    assert "/m/alice/webhooks" in {form.action for form in forms} or person == "operator"
    assert tried > 1_000


ODD = ("\0", "a\0b", "9" * 19, "9" * 40, "2147483648", "-1", "\u00b2", "\u202e", "a" * 3_000)


@on_both_databases
def test_nothing_that_an_address_names_breaks_a_page(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "enabled", False)
    broken, tried = [], 0
    addresses = [
        (world.clients["owner"], method, world.path(rule, "alice", **{name: odd}))
        for rule in world.rules()
        for method in methods_of(rule)
        for name in rule.arguments
        for odd in ODD
        if name not in ("log", "kind") and not _is_refused(rule, name, odd)
    ]
    addresses += [
        (client, method, f"/{page}/{quote(odd)}")
        for page in ("inspect", "shared", "invitation", "reset-password")
        for method in ("GET", "POST")
        for odd in ODD
    ]
    for person, method, address in addresses:
        tried += 1
        answer = person.open(address, method=method)
        answer.close()
        if answer.status_code >= 500:
            broken.append((method, address[:100], answer.status_code))
    assert broken == []
    assert tried > 500


def _is_refused(rule: Rule, name: str, odd: str) -> bool:
    """Whether no address can be made with this value, which Werkzeug then does not take either."""
    try:
        rule._converters[name].to_url(odd)
    except ValueError:
        return True
    return False


@on_both_databases
def test_a_nul_names_nothing_and_is_stored_nowhere(
    signed_in: Callable[[str], FlaskClient], merchant: Merchant
) -> None:
    client = signed_in("owner")
    for page in (
        "webhooks/new?from=",
        "webhooks/new?event=",
        "inspector?request=",
        "recover?type=",
    ):
        for wrong in ("%00", "wh_%00"):
            assert client.get(f"/m/alice/{page}{wrong}").status_code < 500, page
    for path, name, status in (
        ("webhooks/preview", "webhook_id", 404),
        ("event-types", "description", 422),
        ("saved/events", "query", 303),
    ):
        answer = client.post(f"/m/alice/{path}", data={"name": "shop.made", name: "a\0b"})
        assert answer.status_code == status, path
    assert "shop.made" not in client.get("/m/alice/event-types").text


@on_both_databases
def test_no_field_of_the_sign_in_breaks_it(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "enabled", False)
    for page in ("/sign-in", "/forgot-password"):
        for wrong in (b"a%00b@c.de", b"%00", b"%ED%A0%80@c.de", b"a@%00", b"a@" + b"%C3%A4" * 999):
            answer = client.post(
                page,
                data=b"password=x%00&email=" + wrong,
                content_type="application/x-www-form-urlencoded",
            )
            assert answer.status_code < 500, (page, wrong)


NO_ADDRESSES = ("http://[", "http://[x]/", "//[", "http://[::1")


@pytest.mark.parametrize("header", ["Referer", "HX-Current-URL"])
@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_leads_nowhere(client: FlaskClient, header: str, address: str) -> None:
    for method in ("GET", "POST"):
        for path in ("/m/alice/", "/sign-in", "/sign-out", "/nowhere"):
            for part in ({}, {"HX-Request": "true", "HX-Request-Type": "partial"}):
                answer = client.open(path, method=method, headers={header: address, **part})
                assert answer.status_code < 500, (method, path, part)
