"""Who gets an event, and what is said to the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from portal.events.matching import pattern_matches, why_not


def webhook(**changes: object) -> SimpleNamespace:
    fields = {"enabled": True, "events": ["order.*"], "only_sources": [], "except_sources": []}
    return SimpleNamespace(**(fields | changes))


@pytest.mark.parametrize(
    ("pattern", "event_type", "covers"),
    [
        ("order.created", "order.created", True),
        ("order.created", "order.created_again", False),
        ("order.*", "order.created", True),
        ("order.*", "order.line.added", True),
        ("order.*", "orders.created", False),
        ("order.*", "order", False),
        ("*", "anything.at_all", True),
        ("ord*", "order.created", False),
    ],
)
def test_a_trigger_covers_its_type_its_group_or_everything(
    pattern: str, event_type: str, covers: bool
):
    assert pattern_matches(pattern, event_type) is covers


def test_a_subscribed_webhook_gets_the_event():
    assert why_not(webhook(), "order.created", "storefront", "1") is None


@pytest.mark.parametrize(
    ("changes", "source", "active", "reason"),
    [
        ({"events": ["cart.*"]}, "storefront", True, "not_subscribed"),
        ({"except_sources": ["erp"]}, "erp", True, "source_filtered"),
        ({"except_sources": ["erp:7"]}, "erp", True, "source_filtered"),
        ({"only_sources": ["storefront"]}, "erp", True, "source_filtered"),
        ({"only_sources": ["storefront"]}, None, True, "source_filtered"),
        ({"enabled": False}, "storefront", True, "disabled"),
        ({}, "storefront", False, "feature_inactive"),
        ({"enabled": False, "events": ["cart.*"]}, "erp", False, "not_subscribed"),
    ],
)
def test_the_reason_for_not_sending_is_named(changes, source, active, reason):
    assert why_not(webhook(**changes), "order.created", source, "7", active) == reason


@pytest.mark.parametrize("source", ["erp:8", "crm", "er"])
def test_another_source_is_not_left_out(source: str):
    assert why_not(webhook(except_sources=[source]), "order.created", "erp", "7") is None
