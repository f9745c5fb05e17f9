"""What limits by who sends are to a site of IPv6, which has 65,536 networks (addresses.site_of)."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.errors import TooManyRequests
from portal.fairness import hashing
from portal.models import user as users
from portal.web.extensions import SITE_TIMES


@pytest.fixture
def settings() -> dict[str, str]:
    # Nothing listens there: a wish for a password is taken, and its mail waits.
    return {"SMTP_URL": "smtp://127.0.0.1:9", "MAIL_FROM": "hooks@example.com"}


def is_taken(client: FlaskClient, method: str, path: str, number: int, address: str) -> bool:
    answer = client.open(
        path,
        method=method,
        environ_base={"REMOTE_ADDR": address},
        data={"email": f"{number}@example.com", "password": "x"} if method == "POST" else None,
    )
    return answer.status_code != 429


TOKEN = "x" * 43


@pytest.mark.parametrize(
    ("method", "path", "each"),
    [
        ("POST", "/sign-in", 30),
        ("POST", "/forgot-password", 10),
        ("GET", f"/reset-password/{TOKEN}", 60),
        ("GET", f"/invitation/{TOKEN}", 60),
        ("GET", f"/shared/{TOKEN}", 60),
        ("PUT", f"/inspect/{TOKEN}", 120),
        ("POST", "/csp-reports", 30),
    ],
)
def test_a_site_may_do_four_times_what_each_of_its_networks_may(
    app: Flask, method: str, path: str, each: int
) -> None:
    client = app.test_client()
    most = each * SITE_TIMES
    taken = [
        is_taken(client, method, path, number, f"2001:db8:1:{number:x}::1")
        for number in range(most + 2)
    ]
    assert taken == [True] * most + [False] * 2
    assert is_taken(client, method, path, most + 2, "2001:db8:2::1")


def test_a_try_for_which_there_was_no_time_counts_as_one_of_who_tries(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise TooManyRequests(hashing.BUSY, hashing.RETRY_SECONDS)

    def answer(number: int, address: str) -> str:
        return (
            app.test_client()
            .post(
                "/sign-in",
                data={"email": f"u{number}@example.com", "password": "x"},
                environ_base={"REMOTE_ADDR": address},
            )
            .text
        )

    monkeypatch.setattr(users.hashing, "own_turn", refuse)
    assert all(hashing.BUSY in answer(number, "192.0.2.1") for number in range(30))
    assert "too many tries" in answer(30, "192.0.2.1")
    # And not as one for the account, whose owner had no part in it.
    assert all(hashing.BUSY in answer(1, f"198.51.100.{number}") for number in range(15))
