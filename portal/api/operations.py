"""What the API offers: one row for each route, checked against the URL map by a test."""

from __future__ import annotations

from dataclasses import dataclass

from portal.api import queries
from portal.logs import filters


@dataclass(frozen=True)
class Operation:
    """One route: what it takes and gives. `takes` and `gives` name SCHEMAS."""

    name: str
    method: str
    path: str
    summary: str
    gives: str | None = None
    status: int = 200
    takes: tuple[str, ...] = ()
    body_required: bool = True
    filters: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    condition: str | None = None
    """The header (RFC 9110, 13) that makes it depend on an entity tag."""

    @property
    def tag(self) -> str:
        """The first part of the path: what the operation is about."""
        return self.path.split("/")[1]

    @property
    def scope(self) -> str:
        """The scope that the key needs."""
        return "read" if self.method == "GET" else "write"

    @property
    def statuses(self) -> list[int]:
        """The statuses that refuse the request, the common ones included."""
        common = {401, 429, 500, 503}
        if self.scope == "write":
            common |= {403}
        if "{" in self.path:
            common |= {404}
        if self.method == "GET":
            common |= {422}
        if self.filters:
            common |= {400}
        if self.takes or self.method == "POST":
            common |= {400, 413, 415, 422}
        if self.method == "POST":
            # A key under way, or with another request.
            common |= {409}
        if self.condition == "If-Match":
            common |= {412}
        return sorted(common | set(self.refusals))

    @property
    def shows_webhook(self) -> bool:
        """Whether the answer is a webhook, with its entity tag."""
        return self.gives in ("Webhook", "WebhookWithSecret")


LIST = queries.PAGING
OPERATIONS = (
    Operation(
        "create_events",
        "POST",
        "/events",
        "Send one event (at most 1 MiB), or a batch of 1 to 1,000 (at most 16 MiB)",
        "Accepted",
        202,
        ("NewEvent", "NewEvents"),
    ),
    Operation(
        "list_events",
        "GET",
        "/events",
        "List events, newest first",
        "Events",
        filters=(*filters.EVENTS, *LIST),
    ),
    Operation(
        "show_event",
        "GET",
        "/events/{event_id}",
        "Show an event, with its record data while it is kept",
        "EventWithRecord",
    ),
    Operation(
        "related_events",
        "GET",
        "/events/{event_id}/related",
        "Other events of the same record, and of the same action",
        "RelatedEvents",
    ),
    Operation(
        "event_deliveries",
        "GET",
        "/events/{event_id}/deliveries",
        "The deliveries of an event",
        "Deliveries",
    ),
    Operation(
        "list_event_types", "GET", "/event-types", "List the catalogue of event types", "EventTypes"
    ),
    Operation(
        "create_event_type",
        "POST",
        "/event-types",
        "Add an event type of your own",
        "EventType",
        201,
        ("NewEventType",),
    ),
    Operation("list_webhooks", "GET", "/webhooks", "List webhooks", "Webhooks"),
    Operation(
        "create_webhook",
        "POST",
        "/webhooks",
        "Make a webhook; only this answer and rotate-secret's hold the signing secret",
        "WebhookWithSecret",
        201,
        ("NewWebhook",),
    ),
    Operation(
        "show_webhook",
        "GET",
        "/webhooks/{webhook_id}",
        "Show a webhook",
        "Webhook",
        condition="If-None-Match",
    ),
    Operation(
        "update_webhook",
        "PATCH",
        "/webhooks/{webhook_id}",
        "Change the fields that are given",
        "Webhook",
        takes=("WebhookChange",),
        refusals=(409,),
        condition="If-Match",
    ),
    Operation(
        "delete_webhook",
        "DELETE",
        "/webhooks/{webhook_id}",
        "Delete a webhook; what it is still owed is discarded",
        status=204,
        condition="If-Match",
    ),
    Operation(
        "rotate_secret",
        "POST",
        "/webhooks/{webhook_id}/rotate-secret",
        "Give a webhook a new secret; for overlap_hours both sign",
        "WebhookWithSecret",
        takes=("Rotation",),
        body_required=False,
    ),
    Operation(
        "test_webhook",
        "POST",
        "/webhooks/{webhook_id}/test",
        "Send a type's example now, and show the attempt",
        "Attempt",
        takes=("Test",),
    ),
    Operation(
        "enable_webhook",
        "POST",
        "/webhooks/{webhook_id}/enable",
        "Enable a webhook; what was held for it is sent",
        "Webhook",
    ),
    Operation(
        "disable_webhook",
        "POST",
        "/webhooks/{webhook_id}/disable",
        "Disable a webhook; what it is owed is held, what comes meanwhile is never sent to it",
        "Webhook",
        takes=("Disabling",),
        body_required=False,
    ),
    Operation(
        "recover_webhook",
        "POST",
        "/webhooks/{webhook_id}/recover",
        "Send everything again that failed since a moment, and what is held, in the background",
        "Recovered",
        202,
        ("Recovering",),
    ),
    Operation(
        "discard_held",
        "POST",
        "/webhooks/{webhook_id}/discard-held",
        "Discard what is held, in the background",
        "Recovered",
        202,
        ("Discarding",),
        body_required=False,
    ),
    Operation(
        "show_recovery",
        "GET",
        "/recoveries/{recovery_id}",
        "Show how far a recovery is",
        "Recovery",
    ),
    Operation(
        "pause_recovery",
        "POST",
        "/recoveries/{recovery_id}/pause",
        "Stop a recovery after its current batch",
        "Recovery",
    ),
    Operation(
        "resume_recovery",
        "POST",
        "/recoveries/{recovery_id}/resume",
        "Go on with a recovery",
        "Recovery",
    ),
    Operation(
        "cancel_recovery",
        "POST",
        "/recoveries/{recovery_id}/cancel",
        "End a recovery; the rest stays as it is",
        "Recovery",
    ),
    Operation(
        "list_deliveries",
        "GET",
        "/deliveries",
        "List deliveries, newest first",
        "Deliveries",
        filters=(*filters.DELIVERIES, *LIST),
    ),
    Operation(
        "resend_delivery",
        "POST",
        "/deliveries/{delivery_id}/resend",
        "Make one more attempt of a delivery",
        "Delivery",
        202,
    ),
    Operation(
        "list_attempts",
        "GET",
        "/attempts",
        "List attempts, newest first",
        "Attempts",
        filters=(*filters.ATTEMPTS, *LIST),
    ),
    Operation(
        "show_attempt",
        "GET",
        "/attempts/{request_id}",
        "Show an attempt, with its request and response while they are kept",
        "AttemptWithPayload",
    ),
)
