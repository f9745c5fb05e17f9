"""Where each answer leads: links of the OpenAPI document, by the answer's schema."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """The answer's field at `pointer` (a JSON Pointer) is the `parameter` of the operation `to`."""

    to: str
    parameter: str
    pointer: str


def _links(parameter: str, pointer: str, *operations: str) -> tuple[Link, ...]:
    return tuple(Link(name, parameter, pointer) for name in operations)


_OF_EVENT = ("show_event", "related_events", "event_deliveries", "list_deliveries", "list_attempts")
_OF_WEBHOOK = (
    "show_webhook",
    "update_webhook",
    "rotate_secret",
    "test_webhook",
    "enable_webhook",
    "disable_webhook",
    "recover_webhook",
    "discard_held",
    "delete_webhook",
)
_OF_RECOVERY = ("show_recovery", "pause_recovery", "resume_recovery", "cancel_recovery")

LINKS: dict[str, tuple[Link, ...]] = {
    "Accepted": _links("event_id", "/id", *_OF_EVENT),
    "Events": _links("event_id", "/data/0/id", *_OF_EVENT),
    "RelatedEvents": _links("event_id", "/data/0/id", "show_event"),
    "Webhooks": _links("webhook_id", "/data/0/id", *_OF_WEBHOOK),
    "Webhook": _links("webhook_id", "/id", *_OF_WEBHOOK),
    "WebhookWithSecret": _links("webhook_id", "/id", *_OF_WEBHOOK),
    "Recovered": _links("recovery_id", "/recovery_id", *_OF_RECOVERY),
    "Recovery": _links("recovery_id", "/id", *_OF_RECOVERY),
    "Deliveries": (
        *_links("delivery_id", "/data/0/id", "resend_delivery"),
        *_links("webhook_id", "/data/0/webhook_id", "show_webhook"),
        *_links("event_id", "/data/0/event_id", "list_attempts"),
    ),
    "Delivery": _links("event_id", "/event_id", "event_deliveries", "list_attempts"),
    "Attempts": (
        *_links("request_id", "/data/0/request_id", "show_attempt"),
        *_links("event_id", "/data/0/event_id", "show_event"),
    ),
    "Attempt": (
        *_links("request_id", "/request_id", "show_attempt"),
        *_links("event_id", "/event_id", "show_event", "list_attempts"),
    ),
    "AttemptWithPayload": _links("event_id", "/event_id", "show_event"),
}
