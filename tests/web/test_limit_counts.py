"""Counts of tries that are limited: in Redis, whatever somebody writes there, and in a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from portal.models import Merchant
from portal.web import limit_counts
from portal.web.limit_counts import Counts
from tests.conftest import PASSWORD
from tests.factories import make_user


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    connection = Redis.from_url(valkey)
    yield connection
    connection.close()


def sign_in(client: FlaskClient, password: str) -> int:
    return client.post(
        "/sign-in", data={"email": "ann@example.com", "password": password}
    ).status_code


def names(app: Flask, redis: Redis) -> list[bytes]:
    return list(redis.keys(f"*{app.config['RATELIMIT_KEY_PREFIX']}*"))


def test_who_wipes_or_lowers_them_in_redis_gets_no_more_tries(
    app: Flask, client: FlaskClient, merchant: Merchant, redis: Redis
) -> None:
    make_user("owner", merchant, email="ann@example.com")
    answers = []
    for number in range(14):
        answers.append(sign_in(client, "a wrong password"))
        for name in names(app, redis):
            redis.set(name, -1_000_000) if number % 2 else redis.delete(name)
    assert answers == [422] * 10 + [429] * 4


@pytest.mark.parametrize("ttl", [None, 10**9])
def test_who_raises_them_keeps_nobody_out_for_longer_than_the_limit_lasts(
    app: Flask, client: FlaskClient, merchant: Merchant, redis: Redis, ttl: int | None
) -> None:
    make_user("owner", merchant, email="ann@example.com")
    assert sign_in(client, "a wrong password") == 422
    raised = names(app, redis)
    assert len(raised) == 4
    for name in raised:
        redis.set(name, 10**9, ex=ttl)
    assert sign_in(client, PASSWORD) == 303


def test_what_is_no_count_is_none(
    app: Flask, client: FlaskClient, merchant: Merchant, redis: Redis
) -> None:
    make_user("owner", merchant, email="ann@example.com")
    assert sign_in(client, "a wrong password") == 422
    for number, name in enumerate(names(app, redis)):
        redis.delete(name)
        if number % 2:
            redis.rpush(name, "x")
        else:
            redis.set(name, "x" * 10_000_000, ex=60)
    assert [sign_in(client, "a wrong password") for _ in range(11)] == [422] * 9 + [429] * 2


def test_counts_end_with_their_time_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(limit_counts.time, "monotonic", lambda: clock)
    counts = Counts()
    assert [counts.add("a", 60, 1) for _ in range(3)] == [1, 2, 3]
    clock = 30.0
    assert (counts.add("a", 60, 1), counts.left("a")) == (4, 30.0)
    clock = 61.0
    assert (counts.get("a"), counts.left("a"), counts.add("a", 60, 1)) == (0, 0.0, 1)
    for number in range(2 * limit_counts.MOST):
        counts.add(str(number), 60, 1)
    assert len(counts._counts) == limit_counts.MOST
