"""Every page for everyone, made from the URL map: who gets in, and what a stranger can tell.

What is expected is computed from the table of portal/web/access.py; tests/api/test_access.py does
the same for keys of the API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from portal import queues
from portal.clock import now
from portal.db.session import db
from portal.diagnosis import inspector, shares
from portal.events import catalogue
from portal.ids import new_id
from portal.logs import saved
from portal.models import ApiKey, Merchant, Recovery, User
from portal.models.audit import Notice
from portal.people import accounts, invitations, resets, sessions
from portal.web.access import ACCESS, PUBLIC, VIEW
from portal.webhooks import setup
from tests import factories
from tests.conftest import PASSWORD

CANARY = "canary-9f3c7d"
PEOPLE = (
    "anonymous",
    "disabled",
    "viewer",
    "editor",
    "owner",
    "owner of another",
    "auditor",
    "operator",
)
CHANGED_BY_LOOKING = {"audit_entry", "audit_head", "api_key"}
"""What may change when somebody only looks, or is refused: the audit log with the end of its chain,
and when a key was last used."""


@dataclass
class World:
    """Alice's and Bob's stores, each with one of everything, and everyone who may look."""

    app: Flask
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    clients: dict[str, FlaskClient] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def rules(self) -> list[Rule]:
        """Every rule of a page that is not for all; what ends or deletes something comes last."""
        found = [
            rule
            for rule in self.app.url_map.iter_rules()
            if not rule.endpoint.startswith("api.") and ACCESS.get(rule.endpoint) is not PUBLIC
        ]
        last = ("sign_out", "delete", "remove", "revoke", "end_other_sessions")
        return sorted(
            found,
            key=lambda rule: (
                any(word in rule.endpoint for word in last),
                "sign_out" in rule.endpoint,
                rule.endpoint,
            ),
        )

    def path(self, rule: Rule, owner: str, **others: Any) -> str:
        """The address of a rule for what a merchant has."""
        values = self.arguments[owner] | others
        unknown = rule.arguments - values.keys()
        assert not unknown, f"{rule.endpoint}: give furnish() a value for {unknown}"
        with self.app.test_request_context():
            return self.app.url_map.bind("localhost").build(
                rule.endpoint, {name: values[name] for name in rule.arguments}, force_external=False
            )


def furnish(slug: str, world: World) -> Merchant:
    """A merchant with one of everything that an address can name."""
    merchant = factories.make_merchant(slug)
    webhook = setup.create_webhook(
        merchant.id,
        {
            "url": "http://127.0.0.1:9/hook",
            "events": ["order.*"],
            "description": "ERP",
            "headers": {"X-Auth": {"value": CANARY, "secret": True}},
            "query_params": {"token": {"value": CANARY, "secret": True}},
        },
        "test",
    )
    world.secrets += [webhook.secret, CANARY]
    event = factories.make_event(merchant)
    delivery = factories.make_delivery(event, webhook, "failed")
    attempt = factories.make_attempt(delivery, 500)
    accounts.create_key(merchant, "read", "for reading", "test")
    key = db.session.scalars(sa.select(ApiKey).where(ApiKey.merchant_id == merchant.id)).one()
    shares.create_share(merchant.id, attempt.id, next(iter(shares.LIFETIMES)), "test")
    share = shares.list_shares(merchant.id, attempt.id)[0]
    name = f"{slug}.happened"
    catalogue.add_type(merchant.id, {"name": name, "description": "It did.", "example": {}}, "test")
    notice = Notice(merchant_id=merchant.id, kind="held", message="It is held.")
    db.session.add(notice)
    db.session.commit()
    viewer = factories.make_user("viewer", merchant)
    # One that waits, so that everyone who may can pause, resume and cancel it.
    begun = Recovery(
        id=new_id("rcv"),
        merchant_id=merchant.id,
        action="send",
        states=["failed"],
        filters={"type": "order.*"},
        before=now(),
        state="paused",
        created_by="cli",
    )
    db.session.add(begun)
    db.session.commit()
    world.secrets.append(
        invitations.invite(merchant, f"new@{slug}.example", "owner", "cli").rpartition("/")[2]
    )
    invitation = invitations.invitations(merchant)[0]
    inspector.prepare(merchant.id, "test")
    kept = saved.save_filter(viewer.id, merchant.id, "events", "Orders", "type=order.*")
    world.arguments[slug] = {
        "slug": slug,
        "webhook_id": webhook.id,
        "event_id": event.id,
        "delivery_id": delivery.id,
        "attempt_id": attempt.id,
        "key_id": key.id,
        "share_id": share.id,
        "name": name,
        "notice_id": notice.id,
        "object_type": "order",
        "object_id": "1000",
        "kind": "csv",
        "user_id": viewer.id,
        "log": "events",
        "filter_id": kept.id,
        "recovery_id": begun.id,
        "invitation_id": invitation.id,
        "session_id": "ses_0",
        "passkey_id": "pk_0",
    }
    return merchant


@pytest.fixture
def world(app: Flask) -> Iterator[World]:
    world = World(app)
    # Named at a first start, which is before anybody looks.
    queues.installation()
    alice, bob = furnish("alice", world), furnish("bob", world)
    emails = {}
    for person in PEOPLE[1:]:
        role = {"owner of another": "owner", "disabled": "owner"}.get(person, person)
        user = factories.make_user(
            role, bob if person == "owner of another" else alice, password=PASSWORD
        )
        world.users[person], emails[person] = user.id, user.email
    for person in PEOPLE:
        world.clients[person] = client = app.test_client()
        if person != "anonymous":
            form = {"email": emails[person], "password": PASSWORD}
            assert client.post("/sign-in", data=form).status_code == 303
    accounts.disable_user(accounts.get_user(emails["disabled"]), "test")
    yield world
    db.session.rollback()


def roles_of(person: str, rule: Rule) -> set[str]:
    """What the person is at Alice's store, or without a merchant in the address."""
    if person in ("auditor", "operator"):
        return {"user", person}
    if "slug" not in rule.arguments or person == "owner of another":
        return {"user"}
    return {"user", person}


def expected(person: str, rule: Rule) -> int | None:
    """The status of a refusal; None where the person may."""
    if person in ("anonymous", "disabled"):
        return 303
    roles = roles_of(person, rule)
    if ACCESS[rule.endpoint] & roles:
        return None
    return 403 if "slug" not in rule.arguments or VIEW & roles else 404


def methods_of(rule: Rule) -> list[str]:
    return sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})


def tables() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that looking must not change."""
    db.session.rollback()
    return {
        table.name: sorted(map(tuple, db.session.execute(sa.select(table)).all()), key=repr)
        for table in db.metadata.sorted_tables
        if table.name not in CHANGED_BY_LOOKING
    }


def test_every_route_has_a_row_in_the_table(app: Flask):
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(ACCESS)


def test_a_route_that_is_in_no_table_is_refused_to_everyone(app: Flask, world: World):
    app.view_functions["forgotten"] = lambda: "secret"
    app.url_map.add(Rule("/forgotten", endpoint="forgotten"))
    for client in world.clients.values():
        assert client.get("/forgotten").status_code == 403


@pytest.mark.parametrize("person", PEOPLE)
def test_each_page_answers_each_person_as_the_table_says(world: World, person: str):
    wrong = []
    if person in world.users:
        # A saved filter and a sign-in are their user's alone, so each tries one of their own.
        merchant = accounts.get_merchant("alice")
        own = saved.save_filter(world.users[person], merchant.id, "events", "Mine", "type=order.*")
        world.arguments["alice"]["filter_id"] = own.id
        user = db.session.get_one(User, world.users[person])
        if user.is_active:
            sessions.begin(user)
            world.arguments["alice"]["session_id"] = next(one.id for one in sessions.sessions(user))
        db.session.rollback()
    for rule in world.rules():
        for method in methods_of(rule):
            path = world.path(rule, "alice")
            answer = world.clients[person].open(path, method=method)
            status, refusal = answer.status_code, expected(person, rule)
            if refusal == 303:
                right = status == 303 and answer.location.startswith("/sign-in")
            elif refusal is not None:
                right = status == refusal
            else:
                right = status < 500 and status not in (401, 403, 404, 405)
            if not right:
                wrong.append((method, path, status, refusal))
            answer.close()
    assert wrong == []


@pytest.mark.parametrize("person", ["anonymous", "disabled"])
def test_an_htmx_request_without_a_sign_in_makes_the_whole_page_go_there(world: World, person: str):
    for rule in world.rules():
        for method in methods_of(rule):
            answer = world.clients[person].open(
                world.path(rule, "alice"), method=method, headers={"HX-Request": "true"}
            )
            assert answer.status_code == 401
            assert answer.headers["HX-Redirect"].startswith("/sign-in")
            assert answer.data == b""


def plain(answer: TestResponse, *names: str) -> str:
    """An answer without what must differ: names in its address, tokens."""
    text = re.sub(r"[\w.-]{60,}", "TOKEN", answer.text)
    for name in names:
        # Numbers are no part of what an error says; replacing them would hit anything.
        text = text if name.isdigit() else text.replace(name, "NAME")
    return text


class TestHead:
    """It is not protected and not limited as forms are, so it must not do what they do."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SMTP_URL": "smtp://127.0.0.1:9", "MAIL_FROM": "hooks@example.com"}

    @pytest.mark.parametrize("person", ["anonymous", "owner", "operator"])
    def test_it_changes_nothing_whatever_it_brings(self, world: World, person: str):
        owner = db.session.get_one(User, world.users["owner"])
        form = {
            "email": owner.email,
            "password": PASSWORD,
            "repeated": PASSWORD,
            "code": "000000",
            "name": "x",
            "role": "owner",
            "confirm": "alice",
            "url": "https://shop.example/x",
        }
        link = resets.make_link(owner, "test")
        world.arguments["alice"] |= {
            "token": link.rpartition("/")[2],
            "filename": "app.css",
            "object": "x",
        }
        client, tried, before = world.clients[person], set(), tables()
        for rule in world.app.url_map.iter_rules():
            # What an inspector takes is kept, whatever the method.
            if rule.endpoint.startswith("api.") or rule.endpoint == "inspected.receive":
                continue
            answer = client.head(world.path(rule, "alice"), data=form)
            assert answer.data == b"", rule.endpoint
            with client.session_transaction() as session:
                assert ("_user_id" in session) == (person != "anonymous"), rule.endpoint
            tried.add(rule.endpoint)
        assert {"auth.sign_in", "passwords.forgot", "passwords.choose"} < tried
        assert len(tried) > 70
        assert tables() == before


@pytest.mark.parametrize("htmx", [{}, {"HX-Request": "true"}], ids=["page", "htmx"])
def test_another_merchants_page_answers_as_one_that_does_not_exist(
    world: World, htmx: dict[str, str]
):
    client, tried = world.clients["owner of another"], 0
    for rule in world.rules():
        if not rule.rule.startswith("/m/"):
            continue
        for method in methods_of(rule):
            theirs, nobodys = (
                client.open(path, method=method, headers=htmx)
                for path in (world.path(rule, "alice"), world.path(rule, "alice", slug="nobody"))
            )
            assert theirs.status_code == nobodys.status_code == 404
            assert plain(theirs, "alice") == plain(nobodys, "nobody"), rule.endpoint
            tried += 1
    assert tried > 25


OBJECTS = (
    "webhook_id",
    "event_id",
    "delivery_id",
    "attempt_id",
    "key_id",
    "share_id",
    "name",
    "invitation_id",
    "notice_id",
    "user_id",
    "recovery_id",
)
NOBODYS = {"notice_id": 999_999, "user_id": 999_999, "name": "nobody.happened"}


def test_another_merchants_object_answers_as_one_that_does_not_exist(world: World):
    """Under one's own address: Bob asks his own store for what is Alice's."""
    client, tried = world.clients["owner of another"], 0
    before = tables()
    for rule in world.rules():
        named = [name for name in OBJECTS if name in rule.arguments]
        if not rule.rule.startswith("/m/") or not named:
            continue
        for method in methods_of(rule):
            theirs_id = {name: world.arguments["alice"][name] for name in named}
            nobodys_id = {
                name: NOBODYS.get(name) or f"{str(value)[:-4]}0000"
                for name, value in theirs_id.items()
            }
            theirs, nobodys = (
                client.open(
                    world.path(rule, "bob", **identifiers), method=method, data={"role": "viewer"}
                )
                for identifiers in (theirs_id, nobodys_id)
            )
            assert theirs.status_code == nobodys.status_code == 404, rule.endpoint
            assert plain(theirs, *map(str, theirs_id.values())) == plain(
                nobodys, *map(str, nobodys_id.values())
            ), rule.endpoint
            tried += 1
    assert tried > 12
    assert tables() == before


@pytest.mark.parametrize("person", ["auditor", "viewer"])
def test_an_auditor_and_a_viewer_change_nothing_whatever_they_ask_for(world: World, person: str):
    before = tables()
    for rule in world.rules():
        # Their own password and sign-in are theirs.
        if rule.endpoint.startswith(("account.", "auth.")):
            continue
        for method in methods_of(rule):
            world.clients[person].open(
                world.path(rule, "alice"), method=method, data={"name": "x", "role": "owner"}
            ).close()
    assert tables() == before


@pytest.mark.parametrize("person", ["viewer", "auditor", "operator"])
def test_who_may_only_look_sees_no_secret(world: World, person: str):
    looked = 0
    for rule in world.rules():
        if "GET" not in methods_of(rule):
            continue
        answer = world.clients[person].get(world.path(rule, "alice"))
        if answer.mimetype == "text/event-stream":
            answer.close()
            continue
        for secret in world.secrets:
            assert secret not in answer.text, rule.endpoint
            assert secret.removeprefix("whsec_") not in answer.text, rule.endpoint
        looked += 1
    assert looked > 15


def standing(world: World, person: str) -> tuple[Any, ...]:
    db.session.rollback()
    user = db.session.get_one(User, world.users[person])
    return user.staff_role, sorted((entry.merchant.slug, entry.role) for entry in user.memberships)


@pytest.mark.parametrize("person", ["viewer", "editor", "owner", "owner of another", "auditor"])
def test_nobody_promotes_themselves(world: World, person: str):
    before = standing(world, person)
    number = world.users[person]
    email = db.session.get_one(User, number).email
    client = world.clients[person]
    tries: list[tuple[str, dict[str, str]]] = (
        [
            (f"/m/alice/settings/members/{number}", {"role": role})
            for role in ("owner", "operator", "auditor", "admin", "")
        ]
        + [
            ("/m/alice/settings/invitations", {"email": email, "role": role})
            for role in ("owner", "operator", "auditor")
        ]
        + [
            ("/staff/users", {"email": f"new-{person[:3]}@example.com", "staff_role": "operator"}),
            ("/account/password", {"staff_role": "operator", "role": "owner"}),
        ]
    )
    for path, form in tries:
        assert client.post(path, data=form).status_code < 500, path
    # An owner is one already; nobody became more than they were.
    assert standing(world, person) == before
    assert (
        db.session.scalar(
            sa.select(sa.func.count()).select_from(User).where(User.staff_role == "operator")
        )
        == 1
    )


def test_a_role_that_is_taken_away_is_gone_at_the_next_request(world: World):
    client = world.clients["editor"]
    assert client.get("/m/alice/webhooks/new").status_code == 200
    owner = world.clients["owner"]
    address = f"/m/alice/settings/members/{world.users['editor']}"
    assert owner.post(address, data={"role": "viewer"}).status_code == 303
    assert client.get("/m/alice/webhooks/new").status_code == 403
    assert owner.post(f"{address}/remove").status_code == 303
    assert client.get("/m/alice/webhooks").status_code == 404
