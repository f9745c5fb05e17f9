"""Codes by time and recovery codes, without pages around them."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from portal.clock import SECOND, now
from portal.db.session import db
from portal.errors import Invalid
from portal.models import RecoveryCode, User
from portal.people import second_factor
from tests.conftest import PASSWORD, on_both_databases
from tests.factories import make_user

KEY = b"12345678901234567890"
SECRET = base64.b32encode(KEY).decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238_appendix_b(seconds: int, code: str) -> None:
    assert second_factor.code_at(KEY, seconds // 30, digits=8) == code
    assert second_factor.code_at(KEY, seconds // 30) == code[-6:]


@pytest.fixture(autouse=True)
def _still_clock() -> Iterator[None]:
    """No step ends in the middle of a test."""
    with time_machine.travel(time.time(), tick=False):
        yield


@pytest.fixture
def ann(app: object) -> User:
    return make_user("viewer", email="ann@example.com", password=PASSWORD)


def code(later: int = 0) -> str:
    return second_factor.code_at(KEY, now() // (30 * SECOND) + later)


def turn_on(user: User) -> list[str]:
    return second_factor.turn_on(user, SECRET, code(-1), PASSWORD)


@on_both_databases
def test_a_code_is_taken_once_and_none_from_before_it(ann: User) -> None:
    turn_on(ann)
    assert ann.totp_token
    assert SECRET not in ann.totp_token
    assert not second_factor.check(ann, code(-1))
    assert second_factor.check(ann, f" {code()[:3]} {code()[3:]} ")
    assert not second_factor.check(ann, code())
    assert second_factor.check(ann, code(1))
    assert not second_factor.check(ann, code())


@pytest.mark.parametrize("later", [-3, -2, 2, 3])
def test_a_code_of_another_time_is_not_taken(ann: User, later: int) -> None:
    with time_machine.travel(1_800_000_000, tick=False):
        turn_on(ann)
        assert not second_factor.check(ann, code(later))


def test_a_clock_that_is_off_by_half_a_minute_does_no_harm(ann: User) -> None:
    with time_machine.travel(1_800_000_000, tick=False):
        turn_on(ann)
    for later in (-1, 1):
        with time_machine.travel(1_800_003_000 + later * 300, tick=False):
            assert second_factor.check(ann, code(later))


@pytest.mark.parametrize(
    "text",
    ["", "x", "000000 ", "\x00", "\ud800", "١٢٣٤٥٦", "9" * 100_000, "-----", "aaaa-aaaa-aaaa-aaaa"],
)
def test_what_is_no_code_is_refused(ann: User, text: str) -> None:
    with time_machine.travel(1_800_000_000, tick=False):
        turn_on(ann)
        assert not second_factor.check(ann, text)


@on_both_databases
def test_a_recovery_code_works_once_however_it_is_typed(ann: User) -> None:
    codes = turn_on(ann)
    assert len(set(codes)) == 10
    kept = repr([vars(one) for one in db.session.scalars(sa.select(RecoveryCode))])
    assert codes[0].replace("-", "") not in kept
    assert second_factor.check(ann, codes[0].upper().replace("-", " "))
    assert not second_factor.check(ann, codes[0])
    assert second_factor.codes_left(ann) == 9
    renewed = second_factor.renew_codes(ann, PASSWORD)
    assert not second_factor.check(ann, codes[1])
    assert second_factor.check(ann, renewed[0])


def test_a_recovery_code_of_somebody_else_is_refused(ann: User) -> None:
    bob = make_user("viewer", email="bob@example.com", password=PASSWORD)
    codes = turn_on(bob)
    turn_on(ann)
    assert not second_factor.check(ann, codes[0])
    assert second_factor.codes_left(bob) == 10


def test_without_a_second_factor_no_code_is_right(ann: User) -> None:
    assert not second_factor.check(ann, code())
    assert not second_factor.check(ann, "")


@on_both_databases
def test_of_two_who_send_a_code_at_once_one_gets_in(app: Flask, ann: User) -> None:
    turn_on(ann)
    text, answers, gate = code(), [], threading.Barrier(2)
    db.session.rollback()

    def send() -> None:
        with app.app_context():
            user = db.session.scalars(sa.select(User)).one()
            gate.wait()
            answers.append(second_factor.check(user, text))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == [False, True]


def test_turning_it_on_needs_a_code_and_off_the_password(ann: User) -> None:
    with pytest.raises(Invalid) as error:
        second_factor.turn_on(ann, SECRET, "000000", "wrong")
    assert set(error.value.by_field()) == {"code", "password"}
    assert ann.totp_token is None
    turn_on(ann)
    for act in (second_factor.turn_off, second_factor.renew_codes):
        with pytest.raises(Invalid, match="current password"):
            act(ann, "wrong")
    second_factor.turn_off(ann, PASSWORD)
    assert (ann.totp_token, second_factor.codes_left(ann)) == (None, 0)


def test_an_operator_can_take_it_away(ann: User) -> None:
    turn_on(ann)
    second_factor.remove(ann, "cli")
    assert ann.totp_token is None
    assert not second_factor.check(ann, code())


def test_the_app_gets_what_it_needs(ann: User) -> None:
    address = second_factor.app_address(ann, SECRET)
    assert address == (
        f"otpauth://totp/Webhook%20Portal%3Aann%40example.com?secret={SECRET}&issuer=Webhook+Portal"
    )
    assert len(base64.b32decode(second_factor.new_secret())) == 20
