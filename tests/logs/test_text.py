"""Events are found by what their record holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from portal import keyset
from portal.clock import DAY, now
from portal.errors import Invalid
from portal.extensions import db
from portal.logs import browse
from portal.models import EventPayload, Merchant
from portal.strict_json import dump
from tests.conftest import on_both_databases
from tests.factories import make_event, make_merchant

SignIn = Callable[..., FlaskClient]


def found(merchant: Merchant | None, text: str, **filters: str) -> list[str]:
    scope = merchant.id if merchant else None
    page = browse.events(scope, {"text": text, **filters})
    return [event.object_id or "" for event in page.rows]


def order(merchant: Merchant, number: int, value: str, **fields: object) -> None:
    make_event(
        merchant, object_id=str(number), data=dump({"note": value}),
        received_at=fields.pop("received_at", now() + number), **fields,  # type: ignore[arg-type]
    )


@on_both_databases
@pytest.mark.parametrize(
    ("value", "typed"),
    [
        ("Blue Suede Shoes", "suede"), ("Blue Suede Shoes", "BLUE S"), ("Käthe Müller", "Käthe Mü"),
        ('pipe 5" wide', '5" wide'), ("a\\b\\c", "a\\b\\c"), ("100 % wool", "100 %"),
        ("snake_case", "ake_ca"), ("x", '"note":"x"'), ("日本語の注文", "日本語"),
    ],
)
def test_a_part_of_a_value_is_found_in_whatever_case(merchant: Merchant, value: str, typed: str):
    order(merchant, 1, value)
    order(merchant, 2, "something else: 100 5 wool, snakeXcase")
    assert found(merchant, typed) == ["1"]


@on_both_databases
def test_what_a_record_was_before_is_searched_too_and_other_merchants_are_not(merchant: Merchant):
    other = make_merchant("other")
    order(other, 9, "needle")
    event = make_event(merchant, object_id="3", data="{}")
    payload = db.session.get_one(EventPayload, (merchant.id, event.id))
    payload.previous = '{"note":"needle"}'
    db.session.commit()
    order(merchant, 4, "needle", type="order.paid")
    assert sorted(found(merchant, "needle")) == ["3", "4"]
    assert found(merchant, "needle", type="order.paid") == ["4"]
    assert found(other, "needle") == ["9"]
    assert sorted(found(None, "needle")) == ["3", "4", "9"]


@on_both_databases
def test_a_page_looks_through_so_many_records_and_says_so(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keyset, "LOOKED_THROUGH", 40)
    for number in range(20):
        order(merchant, number, "needle" if number == 3 else "hay")
    cursor, pages, rows = None, 0, []
    while pages == 0 or cursor:
        page = browse.events(merchant.id, {"text": "needle"}, cursor)
        rows += [event.object_id for event in page.rows]
        cursor, pages = page.next_cursor, pages + 1
    assert rows == ["3"]
    assert pages == 3


def test_what_is_past_the_days_of_records_is_not_looked_through(merchant: Merchant):
    order(merchant, 1, "needle", received_at=now() - 16 * DAY)
    assert found(merchant, "needle") == []


@pytest.mark.parametrize("text", ["ab", "\x00abc", "x" * 256])
def test_what_cannot_be_looked_for_is_said(merchant: Merchant, text: str):
    with pytest.raises(Invalid):
        found(merchant, text)


def test_the_page_the_search_box_and_the_export_lead_to_it(merchant: Merchant, signed_in: SignIn):
    order(merchant, 7, "Blue Suede Shoes")
    order(merchant, 8, "brown boots")
    person = signed_in("viewer")
    page = person.get("/search?q=suede").text
    assert "/m/alice/events?text=suede" in page
    page = person.get("/m/alice/events?text=suede").text
    assert "Record holds" in page
    assert 'value="suede"' in page
    assert "/order/7" in page or ">7<" in page
    assert ">8<" not in page
    lines = person.get("/m/alice/export/events.jsonl?text=suede").text.splitlines()
    assert len(lines) == 1
    assert '"object_id":"7"' in lines[0]
    assert person.get("/m/alice/events?text=ab").status_code == 422
