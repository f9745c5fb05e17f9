"""The names that the portal answers to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from portal import create_app
from portal.config import SettingError, load_config
from portal.models import Merchant
from portal.people import accounts
from portal.web import hosts

OURS = (
    "localhost",
    "localhost:8000",
    "LOCALHOST",
    "127.0.0.1:8000",
    "[::1]:8000",
    "10.1.2.3",
    "hooks.example.com",
    "Hooks.Example.com:443",
    "hooks.example.com.",
    "portal.internal:8000",
    socket.gethostname(),
)
FOREIGN = (
    "evil.example",
    "hooks.example.com.evil.example",
    "evil.hooks.example.com",
    "2130706433x",
    "localhost.evil.example",
    "hooks.example.com@evil.example:80",
    "[::1",
    "a b",
    "127.0.0.1.nip.io",
    "a" * 64,
    "1" * 300,
    ".",
    "..",
    "localhost..",
    "a..b@127.0.0.1",
    "127.0.0.1/evil.example",
    "evil.example@127.0.0.1",
    "localhost?x",
    "localhost#x",
    "a-" * 200,
)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"PUBLIC_URL": "https://hooks.example.com", "HOSTS": "portal.internal"}


def test_its_own_names_are_answered(client: FlaskClient, subtests: pytest.Subtests):
    for host in OURS:
        with subtests.test(host):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("address", ["/sign-in", "/healthz", "/nowhere", "/api/v1/webhooks"])
def test_another_name_is_refused_with_a_sentence(
    client: FlaskClient, address: str, subtests: pytest.Subtests
):
    for host in FOREIGN:
        with subtests.test(host):
            answer = client.get(address, headers={"Host": host})
            assert answer.status_code == 421
            assert "PORTAL_HOSTS" in answer.text
            if address.startswith("/api/"):
                assert answer.content_type == "application/problem+json"


def test_a_host_that_is_too_long_to_be_a_name_is_not_taken_apart(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    """One of 60,000 letters has 5,000 parts, and took a quarter of a second of the processor."""
    taken_apart = []
    monkeypatch.setattr(hosts, "urlsplit", lambda text: taken_apart.append(text) or urlsplit(text))
    longest = ".".join(["a" * 50] * 4) + "." + "b" * 49 + ":65535"
    for host in (longest, "xn--zckzah." * 5_000):
        assert client.get("/healthz", headers={"Host": host}).status_code == 421
    assert f"//{longest}" in taken_apart
    assert max(map(len, taken_apart)) < 300


def test_an_event_for_another_name_is_refused(client: FlaskClient, merchant: Merchant):
    key = accounts.create_key(merchant, "write", "", "test")
    for host, status in ((OURS[0], 202), (FOREIGN[0], 421), ("a" * 64, 421)):
        answer = client.post(
            "/api/v1/events",
            json={"type": "order.created"},
            headers={"Host": host, "Authorization": f"Bearer {key}"},
        )
        assert answer.status_code == status


def test_what_cannot_be_a_name_is_refused_where_any_is_taken(tmp_path: Path, valkey: str):
    app = create_app(
        load_config(
            {
                "PORTAL_DATA_DIR": str(tmp_path),
                "PORTAL_SECRET_KEY": "k" * 40,
                "PORTAL_HOSTS": "*",
                "PORTAL_REDIS_URL": valkey,
            },
            first_start=True,
        )
    )
    for host, status in (("any.example", 200), ("a" * 64, 421), ("a..b", 421), (".", 421)):
        answer = app.test_client().get("/healthz", headers={"Host": host})
        assert answer.status_code == status, host


def test_another_name_is_shown_nothing_of_who_is_signed_in(signed_in: Callable[[str], FlaskClient]):
    client = signed_in("owner")
    assert "Sign out" in client.get("/account").text
    answer = client.get("/account", headers={"Host": FOREIGN[0]})
    assert answer.status_code == 421
    assert "Sign out" not in answer.text
    assert "/m/alice" not in answer.text


def test_a_form_for_another_name_does_nothing(client: FlaskClient):
    answer = client.post("/sign-in", data={"email": "a@b.example"}, headers={"Host": FOREIGN[0]})
    assert answer.status_code == 421


def test_what_is_no_name_stops_the_start(tmp_path):
    with pytest.raises(SettingError, match="PORTAL_HOSTS='https://x' cannot be used: give names"):
        load_config({"PORTAL_DATA_DIR": str(tmp_path), "PORTAL_HOSTS": "https://x"})


class TestAnyName:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"HOSTS": "*"}

    def test_is_answered_where_that_is_set(self, client: FlaskClient):
        assert client.get("/healthz", headers={"Host": "anything.example"}).status_code == 200
