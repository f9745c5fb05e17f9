"""Hashes of passwords: one at a time, counted to whoever asks, and no way to take the portal's
processors, memory and threads from others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
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
        self._some = threading.Semaphore(0)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.has_begun.set()
        while not self.let_go.is_set() and not self._some.acquire(timeout=0.01):
            pass
        self.at_once -= 1
        return super().verify(hash, password)

    def let_go_of(self, number: int) -> None:
        """Let so many hashes be made."""
        self._some.release(number)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.let_go.set()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    hasher = Slow()
    monkeypatch.setattr(user_models, "_hasher", hasher)
    monkeypatch.setattr(hashing, "PATIENCE_SECONDS", 60.0)
    yield hasher
    hasher.let_go.set()


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def sign_in(app: Flask, address: str = "127.0.0.1") -> tuple[int, str, str | None]:
    answer = app.test_client().post(
        "/sign-in",
        data={"email": "nobody@example.com", "password": "a wrong password"},
        environ_base={"REMOTE_ADDR": address},
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
    assert all(
        hashing.BUSY in text and after == str(hashing.RETRY_SECONDS) for _, text, after in refused
    )
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


def test_one_site_keeps_nobody_else_from_signing_in(app: Flask, slow: Slow) -> None:
    with ThreadPoolExecutor(9) as threads, slow:
        many = [threads.submit(sign_in, app, f"2001:db8:1:{number}::1") for number in range(8)]
        until(lambda: sum(one.done() for one in many) == 8 - 1 - hashing.WAITING)
        other = threads.submit(sign_in, app, "192.0.2.7")
        until(lambda: len(hashing._turns._there) == 2 + hashing.WAITING)
        slow.let_go_of(2)
        # Though it came last: the site that tries has had its turn.
        assert other.result(60)[0] == 422
        until(lambda: sum(one.done() for one in many) == 8 - hashing.WAITING)


def test_where_all_places_are_taken_a_site_gives_one_up_to_who_has_none(
    app: Flask, slow: Slow
) -> None:
    with ThreadPoolExecutor(8) as threads, slow:
        many = [threads.submit(sign_in, app, "192.0.2.1") for _ in range(1 + hashing.WAITING)]
        until(lambda: len(hashing._turns._there) == len(many))
        others = []
        for number in range(hashing.WAITING_OF_ALL):
            others.append(threads.submit(sign_in, app, f"198.51.100.{number}"))
            until(
                lambda: (
                    len(others) == sum(one.site.startswith("198") for one in hashing._turns._there)
                )
            )
        until(lambda: sum(one.done() for one in many) == hashing.WAITING)
        assert sign_in(app, "203.0.113.1")[0] == 429, "all have one"
        slow.let_go.set()
        assert [one.result(60)[0] for one in others] == [422] * hashing.WAITING_OF_ALL
        assert sorted(one.result(60)[0] for one in many) == [422] + [429] * hashing.WAITING


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
