"""What a sender wrote is what a receiver gets, byte for byte, and what people see and find."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import now
from portal.composing.compose import Composer, Payload, Target
from portal.db.session import db, table, writing
from portal.models import Event, EventPayload, Merchant
from tests.api.caller import Caller, problem
from tests.conftest import on_both_databases
from tests.factories import make_webhook

RECORDS = (
    '{"total":99.50}',
    '{"total":123456789012345678.91,"tiny":0.00001,"e":1E2,"E":1.0e+2,"zero":-0,"z":-0.0}',
    '{"big":123456789012345678901234567890,"max":9223372036854775808}',
    r'{"name":"Zo\u00eb","url":"https:\/\/x.example\/a","note":"\u0041\b\f\n\t\"\\"}',
    '{"z":1,"a":2,"m":{"z":1,"a":2}}',
    '{ "total" : 99.50 ,\n\t"lines" : [ 1 , 2.0 ] }',
    "{}",
    "{ }",
    '{"data":{"data":"data"},"previous":"{\\"data\\":{}}"}',
    '{"text":"Zoë – 東京 🛒 \u2028\x7f"}',
)


def body(data: str, **fields: Any) -> bytes:
    head = json.dumps({"type": "order.created", **fields})
    return f'{head[:-1]}, "data" :  {data}, "previous":{data} }}'.encode()


def payload(merchant: Merchant, event_id: str) -> EventPayload:
    return db.session.get_one(EventPayload, (merchant.id, event_id))


@pytest.mark.parametrize("record", RECORDS)
@on_both_databases
def test_a_record_arrives_and_is_shown_as_it_was_written(api: Caller, alice: Merchant, record: str):
    sent = api.post("/events", body(record))
    assert sent.status_code == 202, sent.text
    stored = payload(alice, sent.json["id"])
    assert (stored.data, stored.previous) == (record, record)
    target = Target("POST", "https://erp.example.com/", signing_secrets=[])
    composed = Composer(target).compose(
        sent.json["id"], Payload(stored.head, stored.data, stored.previous), now()
    )
    assert composed.body is not None
    assert f',"data":{record},"previous":{record}}}'.encode() in composed.body
    shown = api.get(f"/events/{sent.json['id']}")
    assert f'"data":{record},"previous":{record},' in shown.get_data(as_text=True)


@pytest.mark.parametrize("size", [1, 2, 1_000])
@on_both_databases
def test_so_does_each_of_a_batch(api: Caller, alice: Merchant, size: int):
    records = [RECORDS[number % len(RECORDS)] for number in range(size)]
    events = ",\n".join(body(record).decode() for record in records)
    sent = api.post("/events", f' {{ "events" : [ {events} ] }} '.encode())
    assert sent.status_code == 202, sent.text
    ids = [one["id"] for one in sent.json["data"]]
    found = dict(db.session.execute(sa.select(EventPayload.event_id, EventPayload.data)).all())
    assert [found[event_id] for event_id in ids] == records


@pytest.mark.parametrize(
    ("record", "sought"),
    [
        ('{"total":99.50}', "99.50"),
        ('{"total": 99.50}', '"total": 99.50'),
        (r'{"name":"Zo\u00eb"}', "Zoë"),
        (r'{"name":"ZO\u00CB"}', "zoë"),
        ('{"name":"Zoë"}', "Zoë"),
        (r'{"url":"https:\/\/x.example"}', "https://x"),
        (r'{"note":"a \u003cb\u003e \u0026 c"}', "a <b> & c"),
        (r'{"note":"say \"hi\""}', 'say "hi"'),
        (r'{"note":"\ud83d\uded2 cart"}', "🛒 cart"),
    ],
)
@on_both_databases
def test_it_is_found_by_what_people_read_in_it(api: Caller, record: str, sought: str):
    sent = api.post("/events", body(record))
    api.post("/events", body('{"other":1}'))
    found = api.get("/events", text=sought)
    assert [event["id"] for event in found.json["data"]] == [sent.json["id"]]


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("{{ event.data.total }}", "99.50"),
        ("{{ event.data.total | json }}", "99.50"),
        ("{{ event.data.lines | json }}", "[1.10,2]"),
        ("{{ event.data.big }}", "1" * 30),
        ("{{ event.data.big | json }}", "1" * 30),
        ("{{ event.data.tiny }}", "0.00001"),
        ("{{ event.data.total | plus: 1 }}", "100.50"),
        ("{{ event.data.total | times: 2 | round: 1 }}", "199.0"),
        ("{% if event.data.total > 99 %}more{% endif %}", "more"),
        ("{{ event.data.total | prepend: 'EUR ' }}", "EUR 99.50"),
        ("{% for one in event.data.lines %}{{ one }};{% endfor %}", "1.10;2;"),
    ],
)
def test_templates_show_numbers_as_they_were_written(
    api: Caller, alice: Merchant, template: str, made: str
):
    record = '{"total":99.50,"lines":[1.10,2],"tiny":0.00001,"big":' + "1" * 30 + "}"
    sent = api.post("/events", body(record))
    stored = payload(alice, sent.json["id"])
    target = Target("POST", "https://erp.example.com/", body_template=template, signing_secrets=[])
    composed = Composer(target).compose(
        sent.json["id"], Payload(stored.head, stored.data, stored.previous), now()
    )
    assert composed.body == made.encode()


# ── The same again ─────────────────────────────────────────────────────────────────────────


@on_both_databases
def test_an_id_that_the_portal_gave_may_come_back(api: Caller, alice: Merchant):
    make_webhook(alice)
    sent = api.post("/events", body('{"total":99.50}'))
    again = body('{"total":99.50}', id=sent.json["id"])
    assert api.post("/events", again).json == sent.json
    problem(api.post("/events", body('{"total":99.51}', id=sent.json["id"])), 409, "/id")
    batch = b'{"events":[%s,%s,%s]}' % (body("{}"), again, again)
    answers = api.post("/events", batch)
    assert answers.status_code == 202, answers.text
    assert answers.json["data"][1:] == [sent.json] * 2
    other = b'{"events":[%s,%s]}' % (body("{}"), body("{}", id=sent.json["id"]))
    problem(api.post("/events", other), 409, "/events/1/id")
    assert len(api.get("/events").json["data"]) == 2


@on_both_databases
def test_the_id_of_a_test_may_come_back(api: Caller, alice: Merchant):
    webhook = make_webhook(alice, url="http://127.0.0.1:1/")
    tested = api.post(f"/webhooks/{webhook.id}/test", {"type": "order.created"})
    event_id = tested.json["event_id"]
    problem(api.post("/events", {"type": "order.paid", "id": event_id}), 409, "/id")


SAME = (
    '{"total":99.50,"name":"Zoë","n":[1,2]}',
    '{"name":"Zoë","total":99.5,"n":[1,2]}',
    r'{ "n" : [1.0, 2e0], "total" : 9950e-2, "name" : "Zo\u00eb" }',
)


@pytest.mark.parametrize("first", SAME)
@pytest.mark.parametrize("again", SAME)
@pytest.mark.parametrize("in_one_batch", [False, True])
@on_both_databases
def test_the_same_content_may_be_spelled_otherwise(
    api: Caller, first: str, again: str, in_one_batch: bool
):
    one, two = body(first, id="mine-1"), body(again, id="mine-1")
    if in_one_batch:
        answers = api.post("/events", b'{"events":[%s,%s]}' % (one, two)).json["data"]
    else:
        answers = [api.post("/events", raw).json for raw in (one, two)]
    assert answers[0] == answers[1] == {"id": "mine-1", "deliveries": 0}


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ('{"a":123456789012345678.91}', '{"a":123456789012345678.92}'),
        ('{"a":1}', '{"a":true}'),
        ('{"a":1}', '{"a":"1"}'),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":null}', "{}"),
        ('{"a":0.1}', '{"a":0.10000000000000001}'),
        ("{}", "null"),
        ('{"a":0}', '{"a":false}'),
    ],
)
@pytest.mark.parametrize("in_one_batch", [False, True])
def test_other_content_is_other_content(api: Caller, first: str, again: str, in_one_batch: bool):
    one, two = body(first, id="mine-1"), body(again, id="mine-1")
    if in_one_batch:
        problem(api.post("/events", b'{"events":[%s,%s]}' % (one, two)), 409, "/events/1/id")
    else:
        assert api.post("/events", one).status_code == 202
        problem(api.post("/events", two), 409, "/id")


@pytest.mark.parametrize("kept", [True, False])
@on_both_databases
def test_what_an_older_portal_stored_is_known_again(api: Caller, alice: Merchant, kept: bool):
    """Its fingerprints are of doubles, with names in order; the IDs it gave had none."""
    raw = body('{"tiny":0.00001,"total":99.50}', occurred_at=1763930000.123456)
    mine = api.post("/events", raw[:-1] + b',"id":"mine-1"}')
    given = api.post("/events", raw)
    assert (mine.status_code, given.status_code) == (202, 202)
    old = '{"tiny":1e-05,"total":99.5}'
    content = (
        f'{{"correlation_id":null,"data":{old},"id":"mine-1","object_id":null,"object_type":"order",'
        f'"occurred_at":1763930000123455,"previous":{old},"source_user_id":null,'
        '"source_user_type":null,"type":"order.created"}'
    )
    event, record = table(Event), table(EventPayload)
    with writing() as session:
        session.execute(sa.update(event).values(occurred_at=1763930000123455, fingerprint=None))
        session.execute(
            sa.update(event)
            .where(event.c.id == "mine-1")
            .values(fingerprint=hashlib.sha256(content.encode()).hexdigest())
        )
        session.execute(sa.update(record).values(data=old, previous=old))
        if not kept:
            session.execute(sa.delete(record))
    assert api.post("/events", raw[:-1] + b',"id":"mine-1"}').json == mine.json
    again = api.post("/events", raw[:-1] + f',"id":"{given.json["id"]}"}}'.encode())
    if kept:
        assert again.json == given.json
    else:
        problem(again, 409, "/id")
    changed = raw.replace(b"99.50", b"99.51")
    problem(api.post("/events", changed[:-1] + b',"id":"mine-1"}'), 409, "/id")


@on_both_databases
def test_an_id_whose_event_is_gone_and_whose_record_is_not_can_be_used(
    api: Caller, alice: Merchant
):
    api.post("/events", body('{"total":1}', id="mine-1"))
    with writing() as session:
        session.execute(sa.delete(table(Event)))
    sent = api.post("/events", body('{"total":2}', id="mine-1"))
    assert sent.status_code == 202, sent.text
    db.session.rollback()
    assert payload(alice, "mine-1").data == '{"total":2}'


# ── IDs of any kind, anywhere ──────────────────────────────────────────────────────────────


@on_both_databases
def test_no_id_that_the_portal_gives_is_an_error_wherever_it_is_sent_back(
    api: Caller, alice: Merchant
):
    webhook = make_webhook(alice, url="http://127.0.0.1:1/")
    tested = api.post(f"/webhooks/{webhook.id}/test", {"type": "order.created"}).json
    event_id = api.post("/events", body("{}", object_id="1", correlation_id="c")).json["id"]
    (delivery, *_) = api.get(f"/events/{event_id}/deliveries").json["data"]
    recovery = api.post(f"/webhooks/{webhook.id}/recover", {"since": 0}).json["recovery_id"]
    page = api.get("/events", limit=1).json
    given = {
        event_id,
        tested["event_id"],
        tested["request_id"],
        tested["delivery_id"],
        webhook.id,
        delivery["id"],
        recovery,
        page["next_cursor"],
        alice.slug,
        "order.created",
        webhook.secret,
        webhook.public_key or "whpk_",
        str(alice.id),
    }
    for one in sorted(filter(None, given)):
        answers = [
            api.post("/events", {"type": "order.created", "id": one}),
            api.post("/events", {"events": [{"type": "order.created", "id": one}] * 2}),
            api.post("/events", {"type": one}),
            api.post("/event-types", {"name": one}),
            api.patch(f"/webhooks/{webhook.id}", {"events": [one], "only_sources": [one]}),
            api.delete(f"/webhooks/{one}" if one != webhook.id else "/webhooks/x"),
        ]
        for field in (
            "object_type",
            "object_id",
            "source_user_type",
            "source_user_id",
            "correlation_id",
            "occurred_at",
            "data",
            "previous",
        ):
            answers.append(api.post("/events", {"type": "order.created", field: one}))
        for path in (
            "/events/{}",
            "/events/{}/related",
            "/events/{}/deliveries",
            "/webhooks/{}",
            "/attempts/{}",
            "/recoveries/{}",
        ):
            answers.append(api.get(path.format(one)))
        for path in (
            "/webhooks/{}/test",
            "/webhooks/{}/recover",
            "/webhooks/{}/rotate-secret",
            "/webhooks/{}/discard-held",
            "/deliveries/{}/resend",
            "/recoveries/{}/pause",
            "/recoveries/{}/cancel",
            "/webhooks/{}/disable",
            "/webhooks/{}/enable",
        ):
            answers.append(api.post(path.format(one)))
        for path, names in (
            ("/events", ("type", "object_id", "event_id", "text", "cursor", "since", "limit")),
            ("/attempts", ("webhook_id", "event_id", "request_id", "cursor", "status", "until")),
            ("/deliveries", ("event_id", "webhook_id", "state", "cursor")),
        ):
            answers += [api.get(path, **{name: one}) for name in names]
        wrong = {
            answer.request.path: answer.text for answer in answers if answer.status_code >= 500
        }
        assert not wrong, one


def test_a_number_stays_what_it_is_in_an_id(api: Caller):
    for written, stored in (
        ("18.0", "18"),
        ("18", "18"),
        ("1E2", "100"),
        ("-0", "0"),
        ("123456789012345678901", "123456789012345678901"),
    ):
        sent = api.post("/events", f'{{"type":"order.created","object_id":{written}}}'.encode())
        found = db.session.scalar(sa.select(Event.object_id).where(Event.id == sent.json["id"]))
        db.session.rollback()
        assert found == stored
    for written in ("1000.50", "123456789012345678.0", "1e300", "true", "[]"):
        raw = f'{{"type":"order.created","object_id":{written}}}'.encode()
        problem(api.post("/events", raw), 422, "/object_id")
