"""Events by API: in, alone and in batches, and out of the log again."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import DAY, SECOND, now
from portal.db.session import writing
from portal.models import Event, EventPayload, Merchant
from portal.people import accounts
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER, webhook_fields
from tests.conftest import on_both_databases

pytestmark = on_both_databases


def test_an_event_is_accepted_with_the_number_of_its_deliveries(
    api: Caller, webhook: dict[str, Any]
) -> None:
    api.post("/webhooks", webhook_fields(events=["*"]))
    api.post("/webhooks", webhook_fields(events=["customer.created"]))
    answer = api.post("/events", ORDER)
    assert answer.status_code == 202
    content = answer.get_json()
    assert content == {"id": content["id"], "deliveries": 2}
    assert content["id"].startswith("evt_")


def test_a_batch_is_answered_in_its_order(api: Caller, webhook: dict[str, Any]) -> None:
    batch = [ORDER, {"type": "customer.created"}, ORDER | {"id": "mine-1"}]
    answer = api.post("/events", {"events": batch})
    assert answer.status_code == 202
    data = answer.get_json()["data"]
    assert [one["deliveries"] for one in data] == [1, 0, 1]
    assert data[2]["id"] == "mine-1"
    newest_first = [row["id"] for row in api.get("/events").get_json()["data"]]
    assert newest_first == [one["id"] for one in reversed(data)]


def test_a_batch_may_hold_1000_events(api: Caller) -> None:
    answer = api.post("/events", {"events": [{"type": "order.created"}] * 1_000})
    assert answer.status_code == 202
    assert len({one["id"] for one in answer.get_json()["data"]}) == 1_000


def test_the_same_id_with_the_same_content_gets_the_same_answer(
    api: Caller, webhook: dict[str, Any]
) -> None:
    first = api.post("/events", ORDER | {"id": "mine-1"})
    api.post("/webhooks", webhook_fields(events=["*"]))
    again = api.post("/events", {"id": "mine-1", **ORDER})
    assert (again.status_code, again.get_json()) == (202, first.get_json())
    assert len(api.get("/events").get_json()["data"]) == 1


def test_an_event_of_an_inactive_merchant_is_logged_and_owed_to_nobody(
    api: Caller, alice: Merchant, webhook: dict[str, Any]
) -> None:
    accounts.deactivate(alice, "cli")
    answer = api.post("/events", ORDER)
    assert (answer.status_code, answer.get_json()["deliveries"]) == (202, 0)


def test_one_event_shows_its_fields_and_its_record(api: Caller, event: dict[str, Any]) -> None:
    shown = api.get(f"/events/{event['id']}").get_json()
    assert {name: shown[name] for name in ORDER} == ORDER
    assert shown["id"] == event["id"]
    assert shown["received_at"] == pytest.approx(now() // SECOND, abs=5)
    assert shown["payload_expires_at"] == pytest.approx(now() // SECOND + 15 * 86_400, abs=5)
    assert shown["is_test"] is False


def test_a_list_shows_events_without_their_record(api: Caller, event: dict[str, Any]) -> None:
    (row,) = api.get("/events").get_json()["data"]
    assert "data" not in row
    assert {name: row[name] for name in ORDER if name in row} == {
        name: ORDER[name] for name in ORDER if name not in ("data", "previous")
    }


def test_an_expired_record_is_null_and_the_event_stays(api: Caller, event: dict[str, Any]) -> None:
    with writing() as session:
        session.execute(sa.delete(EventPayload))
        session.execute(sa.update(Event).values(received_at=Event.received_at - 20 * DAY))
    shown = api.get(f"/events/{event['id']}").get_json()
    assert (shown["data"], shown["previous"]) == (None, None)
    assert shown["payload_expires_at"] < now() // SECOND
    assert shown["object_id"] == "1000"


def test_defaults_are_filled_in(api: Caller) -> None:
    event_id = api.post("/events", {"type": "order.created"}).get_json()["id"]
    shown = api.get(f"/events/{event_id}").get_json()
    assert shown["object_type"] == "order"
    assert shown["occurred_at"] == pytest.approx(now() // SECOND, abs=5)
    assert (shown["object_id"], shown["data"], shown["previous"]) == (None, None, None)


def test_a_moment_may_be_iso_8601_with_a_zone(api: Caller) -> None:
    event = {"type": "order.created", "occurred_at": "2025-11-23T21:33:20+01:00"}
    event_id = api.post("/events", event).get_json()["id"]
    assert api.get(f"/events/{event_id}").get_json()["occurred_at"] == 1763930000


def test_numbers_and_texts_come_back_as_they_were_sent(api: Caller) -> None:
    data = {
        "total": "99.50",
        "count": 3,
        "ratio": 0.1,
        "big": 2**80,
        "text": "Zürich 🛒\n",
        "n": None,
    }
    event_id = api.post("/events", {"type": "order.created", "data": data}).get_json()["id"]
    assert api.get(f"/events/{event_id}").get_json()["data"] == data


def test_related_events_share_the_record_or_the_action(api: Caller) -> None:
    first = api.post("/events", ORDER).get_json()["id"]
    same_record = api.post("/events", ORDER | {"correlation_id": "other"}).get_json()["id"]
    same_action = api.post("/events", ORDER | {"object_id": "2"}).get_json()["id"]
    both = api.post("/events", ORDER).get_json()["id"]
    api.post("/events", ORDER | {"object_id": "2", "correlation_id": "other"})
    related = api.get(f"/events/{first}/related").get_json()
    assert {row["id"]: sorted(row["relation"]) for row in related["data"]} == {
        same_record: ["same_object"],
        same_action: ["same_action"],
        both: ["same_action", "same_object"],
    }


def test_an_event_without_record_or_action_is_related_to_nothing(api: Caller) -> None:
    ids = [api.post("/events", {"type": "order.created"}).get_json()["id"] for _ in range(2)]
    assert api.get(f"/events/{ids[0]}/related").get_json()["data"] == []


def test_the_deliveries_of_an_event(api: Caller, webhook: dict[str, Any]) -> None:
    event_id = api.post("/events", ORDER).get_json()["id"]
    (row,) = api.get(f"/events/{event_id}/deliveries").get_json()["data"]
    assert row["event_id"] == event_id
    assert row["webhook_id"] == webhook["id"]
    assert row["state"] == "pending"
    assert row["attempts"] == 0


@pytest.mark.parametrize("path", ["", "/related", "/deliveries"])
def test_an_unknown_event_is_404(api: Caller, path: str) -> None:
    problem(api.get(f"/events/evt_nothing{path}"), 404)


@pytest.fixture
def many(api: Caller) -> list[str]:
    """Seven events, oldest first."""
    events = [
        ORDER,
        ORDER | {"object_id": "1001"},
        ORDER | {"type": "order.paid"},
        ORDER | {"source_user_type": "erp"},
        ORDER | {"source_user_id": "7"},
        ORDER | {"correlation_id": "checkout-78"},
        {"type": "customer.created", "object_id": "1000"},
    ]
    data = api.post("/events", {"events": events}).get_json()["data"]
    return [one["id"] for one in data]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({}, [6, 5, 4, 3, 2, 1, 0]),
        ({"type": "order.paid"}, [2]),
        ({"object_type": "customer"}, [6]),
        ({"object_type": "order", "object_id": "1001"}, [1]),
        ({"source_user_type": "erp"}, [3]),
        ({"source_user_type": "storefront", "source_user_id": "7"}, [4]),
        ({"correlation_id": "checkout-78"}, [5]),
        ({"type": "order.refunded"}, []),
        ({"object_id": "%"}, []),
        ({"object_id": "100_"}, []),
        ({"limit": "2"}, [6, 5]),
        ({"type": ""}, [6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_events_are_filtered(
    api: Caller, many: list[str], query: dict[str, str], places: list[int]
) -> None:
    rows = api.get("/events", **query).get_json()["data"]
    assert [row["id"] for row in rows] == [many[place] for place in places]


def test_pages_follow_one_another_and_end(api: Caller, many: list[str]) -> None:
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = api.get("/events", **query).get_json()
        # What comes in meanwhile disturbs no page.
        api.post("/events", ORDER)
        seen += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == list(reversed(many))


def test_since_and_until_include_the_seconds_they_name(api: Caller, many: list[str]) -> None:
    received = api.get(f"/events/{many[0]}").get_json()["received_at"]
    for since, until, count in (
        (received, received + 1, 7),
        (received + 2, received + 9, 0),
        (0, received - 1, 0),
        ("1970-01-01T00:00:00Z", "2999-01-01T00:00:00+01:00", 7),
    ):
        rows = api.get("/events", since=since, until=until).get_json()["data"]
        assert len(rows) == count


BAD_QUERIES = {
    "since in words": ({"since": "yesterday"}, "/since"),
    "since without a zone": ({"since": "2025-11-23T20:33:20"}, "/since"),
    "since a date": ({"since": "2025-11-23"}, "/since"),
    "since negative": ({"since": "-1"}, "/since"),
    "since with an exponent": ({"since": "1e9"}, "/since"),
    "since of 400 digits": ({"since": "9" * 400}, "/since"),
    "since NaN": ({"since": "nan"}, "/since"),
    "since year 0": ({"since": "0000-01-01T00:00:00Z"}, "/since"),
    "since in a bad zone": ({"since": "2025-11-23T20:33:20+99:00"}, "/since"),
    "until in words": ({"until": "x"}, "/until"),
    "from after to": ({"since": "1763930001", "until": "1763930000"}, "/until"),
    "limit 0": ({"limit": "0"}, "/limit"),
    "limit 101": ({"limit": "101"}, "/limit"),
    "limit negative": ({"limit": "-1"}, "/limit"),
    "limit in words": ({"limit": "many"}, "/limit"),
    "limit of 400 digits": ({"limit": "1" * 400}, "/limit"),
    "limit in other digits": ({"limit": "٣"}, "/limit"),
    "a parameter that does not exist": ({"types": "order.created"}, "/types"),
    "a parameter twice": ({"limit": ["1", "2"]}, "/limit"),
}


@pytest.mark.parametrize("path", ["/events", "/deliveries", "/attempts"])
@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_wrong_parameter_is_named(api: Caller, path: str, name: str) -> None:
    query, pointer = BAD_QUERIES[name]
    problem(api.get(path, **query), 422, pointer)


@pytest.mark.parametrize("path", ["/webhooks", "/event-types", "/events/evt_1/related"])
def test_where_no_parameter_is_taken_one_is_refused_with_that(api: Caller, path: str) -> None:
    answer = problem(api.get(path, limit="100"), 422, "/limit")
    assert answer["errors"][0]["detail"] == (
        "There is no parameter 'limit' here; leave it out, none is taken."
    )


@pytest.mark.parametrize("path", ["/events", "/deliveries", "/attempts"])
@pytest.mark.parametrize("cursor", ["x", "-", "%00", "9" * 500, "a.b.c", "null", "e30=", "é"])
def test_a_cursor_that_is_none_is_refused(api: Caller, path: str, cursor: str) -> None:
    answer = api.get(path, cursor=cursor)
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


@pytest.mark.parametrize("name", ["type", "object_id", "correlation_id", "source_user_id"])
@pytest.mark.parametrize("value", ["a\0b", "a\nb", "x" * 5_000])
def test_a_filter_with_what_no_value_holds_is_refused(api: Caller, name: str, value: str) -> None:
    problem(api.get("/events", **{name: value}), 422, f"/{name}")


def test_an_unescaped_plus_in_a_zone_is_understood(api: Caller, event: dict[str, Any]) -> None:
    answer = api.call("GET", "/events?since=2020-01-01T00:00:00+01:00")
    assert answer.status_code == 200
    assert len(answer.get_json()["data"]) == 1
