"""How long a merchant's logs are kept, as its owners choose it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.clock import DAY, now
from portal.db.session import db
from portal.errors import Invalid
from portal.models import AuditEntry, Event, Merchant
from portal.people import periods
from portal.upkeep import retention
from tests.factories import make_event

SignIn = Callable[[str], FlaskClient]


def test_without_a_choice_the_portals_settings_hold(merchant: Merchant) -> None:
    assert (periods.event_days(merchant), periods.payload_days(merchant)) == (60, 15)


def test_the_clean_up_follows_the_choice(merchant: Merchant) -> None:
    for days in (1, 20):
        make_event(merchant, received_at=now() - days * DAY)
    periods.change(merchant, "10", "3", "user:ann@example.com")
    assert (periods.event_days(merchant), periods.payload_days(merchant)) == (10, 3)
    retention.purge_expired()
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Event)) == 1
    entry = db.session.scalars(sa.select(AuditEntry)).one()
    assert entry.action == "merchant.retention_changed"
    assert entry.detail["before"] == {"event_days": 60, "payload_days": 15}


def test_who_takes_the_portals_own_periods_follows_them(merchant: Merchant) -> None:
    periods.change(merchant, "10", "3", "cli")
    periods.change(merchant, "60", "15", "cli")
    assert (merchant.event_days, merchant.payload_days) == (None, None)


@pytest.mark.parametrize(
    ("events", "payloads", "fields"),
    [
        ("61", "15", {"event_days"}),
        ("60", "16", {"payload_days"}),
        ("0", "-1", {"event_days", "payload_days"}),
        ("", "x", {"event_days", "payload_days"}),
        ("5", "6", {"payload_days"}),
        ("1.5", "1", {"event_days"}),
        ("٣", "1", {"event_days"}),
        ("9" * 10_000, "1", {"event_days"}),
    ],
)
def test_other_periods_are_refused_with_the_rule(
    merchant: Merchant, events: str, payloads: str, fields: set[str]
) -> None:
    with pytest.raises(Invalid) as error:
        periods.change(merchant, events, payloads, "cli")
    assert set(error.value.by_field()) == fields
    assert merchant.event_days is None


def test_owners_choose_on_the_settings_page_and_others_see(signed_in: SignIn) -> None:
    owner = signed_in("owner")
    wrong = owner.post(
        "/m/alice/settings/retention", data={"event_days": "90", "payload_days": "7"}
    )
    assert wrong.status_code == 422
    assert "from 1 to 60" in wrong.text
    assert 'value="90"' in wrong.text
    right = owner.post(
        "/m/alice/settings/retention", data={"event_days": "30", "payload_days": "7"}
    )
    assert right.status_code == 303
    db.session.rollback()
    page = signed_in("viewer").get("/m/alice/settings").text
    assert "30 days" in page
    assert 'name="event_days"' not in page
    assert "Kept for 30 days" in owner.get("/m/alice/events").text
