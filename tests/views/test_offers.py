"""What a page offers can be done: every link leads somewhere, every form is taken, in every state
that a webhook, a delivery, a link or an account can be in, for everyone who may see the page."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.clock import DAY, HOUR, now
from portal.db.session import db
from portal.diagnosis import inspector, shares
from portal.events import catalogue
from portal.ids import new_id
from portal.models import (
    ApiKey,
    AttemptShare,
    EventPayload,
    Invitation,
    Merchant,
    Recovery,
    Webhook,
)
from portal.models.audit import Notice
from portal.people import accounts, invitations
from portal.webhooks import setup
from tests import factories

SignIn = Callable[[str], FlaskClient]
PEOPLE = ("viewer", "owner", "operator")
ENDS_THE_WALK = ("/sign-out", "/account/sessions", "/export/", "/live", "/static/", "/api/")
MAX_PAGES = 600


@dataclass
class Form:
    """A form as a browser would send it untouched. `asks` says that a person must fill something
    in first, so that a 422 with a sentence is an answer too."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    asks: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.action} {urlencode(self.fields)}"


class Page(HTMLParser):
    """The links and forms of a page."""

    def __init__(self, address: str, text: str):
        super().__init__()
        self.address, self.links, self.forms = address, [], []  # type: ignore[var-annotated]
        self._form: Form | None = None
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []
        self._option: bool | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "a" and given.get("href", "").startswith(("/", "?")):
            self.links.append(given["href"])
        elif tag == "form":
            action = given.get("action", self.address)
            self._form = Form(action, given.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form is None or "disabled" in given:
            return
        elif tag == "input":
            kind = given.get("type", "text")
            if kind in ("checkbox", "radio") and "checked" not in given:
                return
            if given.get("name") and given["name"] != "csrf_token":
                self._form.fields.append((given["name"], given.get("value", "")))
            self._form.asks |= kind not in ("hidden", "checkbox", "radio")
        elif tag == "textarea":
            self._form.fields.append((given["name"], ""))
            self._form.asks = True
        elif tag == "select":
            self._select, self._options = given.get("name"), []
        elif tag == "option" and self._select is not None:
            self._options.append((given.get("value", "\0"), "selected" in given))
            self._option = True
        elif tag == "button" and given.get("name"):
            self._form.fields.append((given["name"], given.get("value", "")))

    def handle_data(self, data: str) -> None:
        if self._option and self._options[-1][0] == "\0":
            self._options[-1] = (data, self._options[-1][1])

    def handle_endtag(self, tag: str) -> None:
        if tag == "option":
            self._option = None
        elif tag == "select" and self._select is not None and self._form is not None:
            chosen = [value for value, is_selected in self._options if is_selected]
            first = [value for value, _ in self._options][:1]
            for value in chosen or first:
                self._form.fields.append((self._select, value))
            self._select = None
        elif tag == "form":
            self._form = None


def shape_of(address: str) -> str:
    """Addresses that show the same page in another order, or another page of a list, are one."""
    # One type of the catalogue is like the other; the merchant's own are used, or free to go.
    parts = urlsplit(re.sub(r"(?<=/event-types/)\w+\.\w+(?<!used)(?<!free)$", "", address))
    names = sorted(name for name, _ in parse_qsl(parts.query))
    return f"{parts.path}?{','.join(names)}"


def states_of_deliveries(merchant: Merchant, webhook: Webhook) -> None:
    """What a webhook can have been owed: each state, with its record and without."""
    for number, state in enumerate(("succeeded", "failed", "discarded")):
        for has_record in (True, False) if state == "failed" else (True,):
            event = factories.make_event(
                merchant,
                object_id=f"{webhook.description}-{state}-{has_record}",
                received_at=now() - HOUR - number,
            )
            delivery = factories.make_delivery(event, webhook, state)
            factories.make_attempt(delivery, 200 if state == "succeeded" else 500)
            if not has_record:
                db.session.execute(sa.delete(EventPayload).where(EventPayload.event_id == event.id))
                db.session.commit()


def furnish(merchant: Merchant) -> None:
    """A store in which everything is in every state that it can be in."""
    moment = now()
    every = {
        "enabled": {},
        "failing": {"failures": 2, "failing_since": moment - HOUR},
        "held": {
            "failures": 9,
            "failing_since": moment - DAY,
            "held_at": moment - HOUR,
            "next_probe_at": moment + HOUR,
        },
        "disabled": {},
        "deleted": {},
    }
    for name, values in every.items():
        webhook = factories.make_webhook(merchant, description=name, **values)
        states_of_deliveries(merchant, webhook)
        if name == "disabled":
            setup.disable(webhook.merchant_id, webhook.id, "cli", "on holiday")
        elif name == "deleted":
            webhook.delete()
            db.session.commit()
        else:
            setup.rotate_secret(webhook.merchant_id, webhook.id, "cli")
    # One event that failed at webhooks which cannot be sent to any more, and nowhere else.
    lost = factories.make_event(merchant, object_id="lost")
    for name in ("disabled", "deleted"):
        webhook = db.session.scalars(
            sa.select(Webhook).filter_by(merchant_id=merchant.id, description=name)
        ).one()
        factories.make_attempt(factories.make_delivery(lost, webhook, "failed"), 500)
    tested = factories.make_event(merchant, object_id="test", is_test=True)
    webhook = db.session.scalars(
        sa.select(Webhook).filter_by(merchant_id=merchant.id, description="enabled")
    ).one()
    delivery = factories.make_delivery(tested, webhook, "failed", trigger="test")
    shared = factories.make_attempt(delivery, 500, trigger="test")
    hours = next(iter(shares.LIFETIMES))
    for _ in range(shares.MAX_OPEN + 2):
        if len(shares.list_shares(merchant.id, shared.id)) < shares.MAX_OPEN:
            shares.create_share(merchant.id, shared.id, hours, "cli")
    few = factories.make_attempt(delivery, 500)
    for _ in range(3):
        shares.create_share(merchant.id, few.id, hours, "cli")
    one, two, _ = shares.list_shares(merchant.id, few.id)
    shares.revoke_share(merchant.id, few.id, one.id, "cli")
    db.session.execute(
        sa.update(AttemptShare).where(AttemptShare.id == two.id).values(expires_at=moment - HOUR)
    )
    db.session.commit()
    for state in ("running", "paused", "cancelled", "finished"):
        db.session.add(
            Recovery(
                id=new_id("rcv"),
                merchant_id=merchant.id,
                action="send",
                states=["failed"],
                filters={"type": "order.created"},
                before=moment,
                state=state,
                created_by="cli",
                finished_at=moment if state in ("cancelled", "finished") else None,
            )
        )
    for name in (f"{merchant.slug}.used", f"{merchant.slug}.free"):
        catalogue.add_type(merchant.id, {"name": name, "description": "", "example": {}}, "cli")
    factories.make_webhook(merchant, description="own", events=[f"{merchant.slug}.used"])
    db.session.add(Notice(merchant_id=merchant.id, kind="held", message="It is held."))
    accounts.create_key(merchant, "read", "kept", "cli")
    accounts.create_key(merchant, "write", "gone", "cli")
    gone = db.session.scalars(
        sa.select(ApiKey).filter_by(merchant_id=merchant.id, name="gone")
    ).one()
    accounts.revoke_key(merchant, gone.id, "cli")
    for role in ("viewer", "editor", "owner"):
        factories.make_user(role, merchant)
    accounts.disable_user(factories.make_user("editor", merchant), "cli")
    for email in ("open@example.com", "late@example.com"):
        invitations.invite(merchant, email, "viewer", "cli")
    db.session.execute(
        sa.update(Invitation)
        .where(Invitation.email == "late@example.com")
        .values(expires_at=moment - HOUR)
    )
    db.session.commit()
    inspector.prepare(merchant.id, "cli")


class Snapshot:
    """The whole database as it is now, to be had again after each form that was sent."""

    def __init__(self, database: str):
        self.path = database.removeprefix("sqlite:///")
        self.kept = sqlite3.connect(":memory:")
        db.session.rollback()
        with closing(sqlite3.connect(self.path)) as now_there:
            now_there.backup(self.kept)

    def restore(self) -> None:
        db.session.rollback()
        with closing(sqlite3.connect(self.path)) as now_there:
            self.kept.backup(now_there)


@pytest.fixture
def settings() -> dict[str, str]:
    # Tests and resolving are refused before anything leaves: what is offered is what counts.
    return {"TIMEOUT_SECONDS": "1"}


@pytest.fixture
def stores(merchant: Merchant) -> Iterator[list[Merchant]]:
    idle = factories.make_merchant("carol")
    furnish(merchant)
    furnish(idle)
    accounts.deactivate(idle, "cli")
    db.session.rollback()
    yield [merchant, idle]
    db.session.rollback()


def walk(client: FlaskClient, starts: list[str], refused: list[str]) -> Iterator[Page]:
    """Every page that links lead to; into `refused` what leads nowhere."""
    waiting, seen = list(starts), Counter(map(shape_of, starts))
    shown: dict[str, str] = {}
    while waiting:
        address = waiting.pop(0)
        answer = client.get(address, headers={"Referer": "http://localhost/"})
        while answer.status_code in (302, 303):
            answer = client.get(answer.location)
        if answer.status_code != 200:
            refused.append(f"{shown.get(address)}: {address}: {answer.status_code}")
        if answer.status_code != 200 or answer.mimetype != "text/html":
            continue
        page = Page(address, answer.text)
        yield page
        for link in page.links:
            link = urlsplit(link)._replace(fragment="").geturl()
            link = urlsplit(address).path + link if link.startswith("?") else link
            if any(word in link for word in ENDS_THE_WALK) or "live=1" in link:
                continue
            if not seen[shape_of(link)]:
                waiting.append(link)
                shown[link] = address
            seen[shape_of(link)] += 1
    assert len(seen) <= MAX_PAGES


@pytest.mark.parametrize("person", PEOPLE)
def test_every_link_leads_somewhere_and_every_form_is_taken(
    app: Flask, signed_in: SignIn, stores: list[Merchant], database: str, person: str
):
    slugs = [store.slug for store in stores]
    client = signed_in(person)
    db.session.rollback()
    starts = ["/", "/account"]
    if person in ("auditor", "operator"):
        starts += [f"/m/{slug}/" for slug in slugs] + ["/staff/merchants", "/staff/users"]
    refused: list[str] = []
    pages = list(walk(client, starts, refused))
    kept = Snapshot(database)
    sent: set[str] = set()
    for page in pages:
        for form in page.forms:
            # Alike for each row of a list but for the ID: what differs in state is kept apart.
            if form.name in sent or form.method == "dialog":
                continue
            if any(word in form.action for word in ENDS_THE_WALK):
                continue
            sent.add(form.name)
            if form.method == "get":
                query = urlencode(form.fields)
                answer = client.get(f"{urlsplit(form.action).path}?{query}")
            else:
                answer = client.post(
                    form.action, data=dict(form.fields), headers={"Referer": page.address}
                )
                kept.restore()
            if answer.status_code not in ((200, 303, 422) if form.asks else (200, 303)):
                said = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", answer.text))[-200:]
                refused.append(f"{page.address}: {form.name}: {answer.status_code} {said}")
    assert not refused, "\n".join(refused)
    assert len(pages) > 30
    assert len(sent) > (10 if person == "viewer" else 100)


def test_what_was_offered_before_it_changed_is_refused_in_words(
    signed_in: SignIn, merchant: Merchant
):
    """A page that is older than what happened since: the form is there, and its answer says why."""
    webhook = factories.make_webhook(merchant)
    event = factories.make_event(merchant)
    delivery = factories.make_delivery(event, webhook, "failed")
    attempt = factories.make_attempt(delivery, 500)
    client = signed_in("editor")
    address = f"/m/alice/deliveries/{delivery.id}/resend"
    pages = (f"/m/alice/events/{event.id}", f"/m/alice/attempts/{attempt.id}")
    assert all(address in client.get(page).text for page in pages)
    for change, said in (
        ({"enabled": False}, "The webhook is disabled; enable it first."),
        ({"enabled": True}, None),
        (None, "record data is past its days; it cannot be sent again."),
        ({"deleted_at": now()}, "The webhook is deleted; nothing can be sent to it any more."),
    ):
        db.session.rollback()
        if change is None:
            db.session.execute(sa.delete(EventPayload))
        else:
            db.session.execute(sa.update(Webhook).values(change))
        db.session.commit()
        for page in pages:
            text = client.get(page).text
            assert (address in text) == (said is None)
            assert said is None or said in text
        if said is not None:
            answer = client.post(address)
            assert answer.status_code == 409
            assert said in answer.text
        db.session.rollback()
