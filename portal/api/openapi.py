"""The OpenAPI 3.1 document: one row for each route, checked against the URL map by a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from portal.api import problems, queries
from portal.api.blueprint import PREFIX
from portal.api.openapi_schemas import SCHEMAS, ref
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
    refusals: tuple[int, ...] = field(default=())

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
        if self.takes:
            common |= {400, 413, 415, 422}
        return sorted(common | set(self.refusals))


LIST = queries.PAGING
OPERATIONS = (
    Operation(
        "create_events", "POST", "/events",
        "Send one event (at most 1 MiB), or a batch of 1 to 1,000 (at most 16 MiB)",
        "Accepted", 202, ("NewEvent", "NewEvents"), refusals=(409,),
    ),
    Operation(
        "list_events", "GET", "/events", "List events, newest first", "Events",
        filters=(*filters.EVENTS, *LIST),
    ),
    Operation(
        "show_event", "GET", "/events/{event_id}",
        "Show an event, with its record data while it is kept", "EventWithRecord",
    ),
    Operation(
        "related_events", "GET", "/events/{event_id}/related",
        "Other events of the same record, and of the same action", "RelatedEvents",
    ),
    Operation(
        "event_deliveries", "GET", "/events/{event_id}/deliveries",
        "The deliveries of an event", "Deliveries",
    ),
    Operation(
        "list_event_types", "GET", "/event-types", "List the catalogue of event types",
        "EventTypes",
    ),
    Operation(
        "create_event_type", "POST", "/event-types", "Add an event type of your own",
        "EventType", 201, ("NewEventType",), refusals=(409,),
    ),
    Operation("list_webhooks", "GET", "/webhooks", "List webhooks", "Webhooks"),
    Operation(
        "create_webhook", "POST", "/webhooks",
        "Make a webhook; only this answer and rotate-secret's hold the signing secret",
        "WebhookWithSecret", 201, ("NewWebhook",),
    ),
    Operation("show_webhook", "GET", "/webhooks/{webhook_id}", "Show a webhook", "Webhook"),
    Operation(
        "update_webhook", "PATCH", "/webhooks/{webhook_id}",
        "Change the fields that are given", "Webhook", takes=("WebhookChange",), refusals=(409,),
    ),
    Operation(
        "delete_webhook", "DELETE", "/webhooks/{webhook_id}",
        "Delete a webhook; what it is still owed is discarded", status=204,
    ),
    Operation(
        "rotate_secret", "POST", "/webhooks/{webhook_id}/rotate-secret",
        "Give a webhook a new secret; for overlap_hours both sign", "WebhookWithSecret",
        takes=("Rotation",), body_required=False,
    ),
    Operation(
        "test_webhook", "POST", "/webhooks/{webhook_id}/test",
        "Send a type's example now, and show the attempt", "Attempt", takes=("Test",),
    ),
    Operation(
        "enable_webhook", "POST", "/webhooks/{webhook_id}/enable",
        "Enable a webhook; what was held for it is sent", "Webhook",
    ),
    Operation(
        "disable_webhook", "POST", "/webhooks/{webhook_id}/disable",
        "Disable a webhook; what it is owed is held", "Webhook", takes=("Disabling",),
        body_required=False,
    ),
    Operation(
        "recover_webhook", "POST", "/webhooks/{webhook_id}/recover",
        "Send everything again that failed since a moment, and what is held, in the background",
        "Recovered", 202, ("Recovering",), refusals=(409,),
    ),
    Operation(
        "discard_held", "POST", "/webhooks/{webhook_id}/discard-held",
        "Discard what is held, in the background", "Recovered", 202, ("Discarding",),
        body_required=False, refusals=(409,),
    ),
    Operation(
        "show_recovery", "GET", "/recoveries/{recovery_id}", "Show how far a recovery is",
        "Recovery",
    ),
    Operation(
        "pause_recovery", "POST", "/recoveries/{recovery_id}/pause",
        "Stop a recovery after its current batch", "Recovery", refusals=(409,),
    ),
    Operation(
        "resume_recovery", "POST", "/recoveries/{recovery_id}/resume",
        "Go on with a recovery", "Recovery", refusals=(409,),
    ),
    Operation(
        "cancel_recovery", "POST", "/recoveries/{recovery_id}/cancel",
        "End a recovery; the rest stays as it is", "Recovery", refusals=(409,),
    ),
    Operation(
        "list_deliveries", "GET", "/deliveries", "List deliveries, newest first", "Deliveries",
        filters=(*filters.DELIVERIES, *LIST),
    ),
    Operation(
        "resend_delivery", "POST", "/deliveries/{delivery_id}/resend",
        "Make one more attempt of a delivery", "Delivery", 202, refusals=(409,),
    ),
    Operation(
        "list_attempts", "GET", "/attempts", "List attempts, newest first", "Attempts",
        filters=(*filters.ATTEMPTS, *LIST),
    ),
    Operation(
        "show_attempt", "GET", "/attempts/{request_id}",
        "Show an attempt, with its request and response while they are kept",
        "AttemptWithPayload",
    ),
)


def document(public_url: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of a portal that people reach at `public_url`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Webhook Portal",
            "version": version,
            "description": "Events in, webhooks out, and a log of both. Moments are Unix "
            "seconds, UTC. Lists are pages: follow next_cursor until it is null.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_url + PREFIX}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "whp_…",
                    "description": "An API key with the scope read or write.",
                },
            },
            "schemas": SCHEMAS,
            "responses": {_refusal_name(status): _refusal(status) for status in problems.KINDS},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"Needs a key with the scope {operation.scope}.",
        "responses": {
            str(operation.status): _answer(operation),
            **{
                str(status): {"$ref": f"#/components/responses/{_refusal_name(status)}"}
                for status in operation.statuses
            },
        },
    }
    parameters = [_path_parameter(name) for name in _names_in(operation.path)]
    parameters += [_query_parameter(name) for name in operation.filters]
    if parameters:
        shown["parameters"] = parameters
    if operation.takes:
        shown["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": _one_of(operation.takes)}},
        }
    return shown


def _one_of(names: tuple[str, ...]) -> dict[str, Any]:
    return ref(names[0]) if len(names) == 1 else {"oneOf": [ref(name) for name in names]}


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.gives is None:
        return {"description": "Done; no body."}
    # A batch is answered with a list.
    names: tuple[str, ...] = (operation.gives,)
    if len(operation.takes) > 1:
        names = ("Accepted", "AcceptedEvents")
    return {
        "description": operation.summary + ".",
        "content": {"application/json": {"schema": _one_of(names)}},
    }


def _names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(name: str) -> dict[str, Any]:
    schema = {"type": "integer"} if name == "limit" else {"type": "string"}
    return {
        "name": name, "in": "query", "description": queries.MEANINGS[name], "schema": schema,
    }


def _refusal_name(status: int) -> str:
    kind = problems.KINDS[status][0]
    return "".join(part.capitalize() for part in kind.split("-"))


def _refusal(status: int) -> dict[str, Any]:
    _, title, meaning = problems.KINDS[status]
    answer: dict[str, Any] = {
        "description": f"{title}. {meaning}",
        "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
    }
    if status in (429, 503):
        answer["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        }
    if status == 401:
        answer["headers"] = {
            "WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}
        }
    return answer
