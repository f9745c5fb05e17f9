"""Whatever a merchant's secrets are, and its receivers answer: to look for the ones in the others
takes no time of anybody else's."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from flask import Flask

from portal import runtime
from portal.composing.compose import Frame, Outgoing, Payload
from portal.composing.echoes import Echoes
from portal.delivery.due import DueDelivery
from portal.delivery.recording import FinishedAttempt
from portal.models.webhook import MASK
from portal.outbound.looking import MOST_SECONDS, NOT_KEPT, SHARE, Looking
from portal.outbound.response import Response

SECRETS = [f'A "/<& é{number:02}' + "a" * 100 for number in range(100)]
"""Of each there are a dozen spellings, and none is found before its end is looked at."""
NEARLY = b"a" * 65_535 + b"\0"


def answered(whose: int, body: bytes, *secrets: str) -> Response:
    """What is kept of an answer to a merchant's request with these secrets."""
    due = DueDelivery("dlv_1", whose, "evt_1", "wh_1", 0, 0, "scheduled", "a.b", Payload("{}"))
    frame = Frame("POST", "http://a/", [], "http://a/", [], None, secrets)
    headers = [("X-Got", body[:600].decode()) for _ in range(100)]
    tried = FinishedAttempt(
        "req_1",
        due,
        "POST",
        "http://a/",
        Outgoing(frame, [], b"{}", "record"),
        Response(200, headers=headers, body=body),
        1,
        2,
    )
    return tried.answer


def test_an_answer_takes_no_longer_than_there_is_time_for_it(app: Flask):
    started = time.thread_time()
    kept = answered(1_000_001, NEARLY, *SECRETS)
    # It took two seconds.
    assert time.thread_time() - started < 10 * MOST_SECONDS
    assert kept.body == NOT_KEPT
    assert set(kept.headers) == {("X-Got", MASK)}
    started = time.thread_time()
    for _ in range(50):
        answered(1_000_001, NEARLY, *SECRETS)
    assert time.thread_time() - started < 50 * MOST_SECONDS
    # Others have time of their own.
    assert answered(1_000_002, b"hello secret", "secret").body == b"hello ********"[:12]


@dataclass
class Clocks:
    """A clock that stands, and a processor of which each look takes a millisecond."""

    passed: float = 100.0
    used: float = 0.0

    def worked(self) -> float:
        self.used += 0.001
        return self.used


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr("portal.composing.echoes.time.thread_time", clocks.worked)
    return clocks


def test_time_that_was_used_comes_back(clocks: Clocks):
    mine = Looking(lambda: clocks.passed, clocks.worked)
    echoes = Echoes(["canary"])

    def is_kept() -> bool:
        got = mine.without_secrets(Response(200, body=b"no secret"), echoes, 1)
        return got.body == b"no secret"

    times = 0
    while is_kept():
        times += 1
        assert times < 100
    assert times > 1
    assert not is_kept()
    clocks.passed += MOST_SECONDS / SHARE
    assert is_kept()


def test_nothing_of_an_answer_that_was_not_looked_through_is_shown():
    mine = Looking(lambda: 0.0)
    echoes = Echoes(SECRETS)
    for _ in range(3):
        answer = Response(503, headers=[("Retry-After", "9"), ("X", SECRETS[7])], body=NEARLY)
        kept = mine.without_secrets(answer, echoes, 1)
        assert (kept.status, kept.body) == (503, NOT_KEPT)
        assert SECRETS[7] not in str(kept.headers)
    assert mine.without_secrets(Response(204), echoes, 1).body == b""


def test_all_look_with_one_account(app: Flask):
    kept = runtime.part(Looking).without_secrets(
        Response(200, body=b"x"), Echoes(["longer"]), 1_000_003
    )
    assert kept.body == b"x"
