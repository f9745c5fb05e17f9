"""Which webhooks get an event, and why the others do not. Pure."""

from __future__ import annotations

from typing import Protocol

SENT = None
NOT_SUBSCRIBED = "not_subscribed"
SOURCE_FILTERED = "source_filtered"
DISABLED = "disabled"
FEATURE_INACTIVE = "feature_inactive"


class Subscription(Protocol):
    """What matching needs to know of a webhook."""

    enabled: bool
    events: list[str]
    only_sources: list[str]
    except_sources: list[str]


def pattern_matches(pattern: str, event_type: str) -> bool:
    """Whether a trigger (`order.created`, `order.*` or `*`) covers an event type.

    `order.*` covers everything below `order.`, at any depth.
    """
    if pattern == "*" or pattern == event_type:
        return True
    return pattern.endswith(".*") and event_type.startswith(pattern[:-1])


def source_matches(source: str, user_type: str | None, user_id: str | None) -> bool:
    """Whether a source filter's entry (`erp`, or `erp:17` for one user) names this source user."""
    if user_type is None:
        return False
    return source == user_type or (user_id is not None and source == f"{user_type}:{user_id}")


def why_not(
    webhook: Subscription,
    event_type: str,
    source_user_type: str | None,
    source_user_id: str | None,
    merchant_active: bool = True,
) -> str | None:
    """Why a webhook does not get an event: `not_subscribed`, `source_filtered`, `disabled` or
    `feature_inactive`; None when it does.

    Of several reasons it is the one that a person would have to deal with first.
    """
    if not any(pattern_matches(pattern, event_type) for pattern in webhook.events):
        return NOT_SUBSCRIBED
    if webhook.only_sources and not any(
        source_matches(source, source_user_type, source_user_id) for source in webhook.only_sources
    ):
        return SOURCE_FILTERED
    if any(
        source_matches(source, source_user_type, source_user_id)
        for source in webhook.except_sources
    ):
        return SOURCE_FILTERED
    if not webhook.enabled:
        return DISABLED
    if not merchant_active:
        return FEATURE_INACTIVE
    return SENT
