"""Hashes of passwords: one at a time, counted to whoever asks, and no way to take the portal's
processors, memory and threads from others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher
from flask import Flask

from portal.fairness import courtesy, hashing
from portal.models import User
from portal.models import user as user_models
from portal.views.auth import WRONG


class Slow(PasswordHasher):
    """One whose hashes take until they are let go, and that knows how many it makes at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.let_go, self.has_begun = threading.Event(), threading.Event()
        self.at_once = self.most = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.has_begun.set()
        assert self.let_go.wait(60)
        self.at_once -= 1
        return super().verify(hash, password)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    hasher = Slow()
    monkeypatch.setattr(user_models, "_hasher", hasher)
    monkeypatch.setattr(hashing, "PATIENCE_SECONDS", 60.0)
    yield hasher
    hasher.let_go.set()


def sign_in(app: Flask) -> tuple[int, str, str | None]:
    answer = app.test_client().post(
        "/sign-in", data={"email": "nobody@example.com", "password": "a wrong password"}
    )
    return answer.status_code, answer.text, answer.headers.get("Retry-After")


def test_of_many_who_try_passwords_at_once_few_wait_and_the_others_are_told_so(
    app: Flask, slow: Slow
) -> None:
    with ThreadPoolExecutor(12) as threads:
        tries = [threads.submit(sign_in, app) for _ in range(12)]
        assert slow.has_begun.wait(60)
        # Those who are refused have their answer though no hash is made yet.
        while sum(one.done() for one in tries) < 12 - 1 - hashing.WAITING:
            threading.Event().wait(0.01)
        slow.let_go.set()
        answers = [one.result() for one in tries]
    refused = [answer for answer in answers if answer[0] == 429]
    assert slow.most == 1
    assert len(refused) == 12 - 1 - hashing.WAITING
    assert all(hashing.BUSY in text and after == str(hashing.RETRY_SECONDS)
               for _, text, after in refused)
    assert all(WRONG in text for status, text, _ in answers if status == 422)
    # Nothing of it stays.
    assert sign_in(app)[0] == 422


def test_who_waits_too_long_is_refused_and_holds_no_place(
    app: Flask, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "PATIENCE_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(sign_in, app)
        assert slow.has_begun.wait(60)
        assert [sign_in(app)[0] for _ in range(2 * hashing.WAITING)] == [429] * 2 * hashing.WAITING
        slow.let_go.set()
        assert first.result()[0] == 422


@pytest.fixture
def counted() -> Iterator[list[float]]:
    """What is counted to whoever works in this thread."""
    seconds: list[float] = []

    class Work:
        whose = None

        def breathe(self, at_least: float = 0.0) -> float:
            return at_least

        def count(self, more: float) -> None:
            seconds.append(more)

    courtesy.do(Work())
    yield seconds
    courtesy.do(None)


def test_a_hash_is_counted_to_whoever_asked_for_it(
    counted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As costly as it is: in threads of its own, of whose time the calling thread knows nothing.
    monkeypatch.setattr(user_models, "_hasher", PasswordHasher())
    user = User(password_hash=user_models.hash_password("correct horse"))
    assert not user.check_password("a wrong password")
    assert len(counted) == 2
    assert min(counted) > 0.001


def test_on_a_busy_machine_a_hash_counts_as_what_it_needs_and_not_as_how_long_it_waits(
    counted: list[float],
) -> None:
    with hashing.own_turn():
        # The processors are somebody else's.
        threading.Event().wait(0.3)
    assert len(counted) == 1
    assert counted[0] < 0.1
