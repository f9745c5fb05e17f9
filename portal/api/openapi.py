"""The OpenAPI 3.1 document, from the rows of portal.api.operations."""

from __future__ import annotations

from typing import Any

from portal.api import idempotency, problems, queries
from portal.api.blueprint import PREFIX
from portal.api.openapi_links import LINKS
from portal.api.openapi_requests import ID
from portal.api.openapi_schemas import SCHEMAS
from portal.api.operations import OPERATIONS, Operation
from portal.json_schema import ref

ETAG: dict[str, Any] = {
    "description": "Strong entity tag: changes with each edit and with the webhook's health.",
    "required": True,
    "schema": {"type": "string", "pattern": '^"[0-9]+-[0-9a-f]{12}"$'},
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": "Makes sending again harmless: for 24 hours the same request with the same key "
    "is answered with the first answer, marked Idempotent-Replayed: true. With another request "
    "422, while the first is under way 409.",
    "schema": {
        "type": "string",
        "pattern": '^("[ !#-\\[\\]-~]{1,255}"|[!#-\\[\\]-~]{1,255})$',
        "examples": ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    },
}
REPLAYED: dict[str, Any] = {
    "description": "There where the answer is an earlier one, for its Idempotency-Key.",
    "required": False,
    "schema": {"const": "true"},
}
RATE_LIMIT: dict[str, Any] = {
    name: {"description": meaning, "required": False, "schema": {"type": "string"}}
    for name, meaning in (
        ("RateLimit-Policy", 'Requests of a key in a window of w seconds: "key";q=1000;w=1.'),
        ("RateLimit", 'Requests left until the window ends in t seconds: "key";r=999;t=1.'),
    )
}
CONDITIONS: dict[str, dict[str, Any]] = {
    name: {
        "name": name,
        "in": "header",
        "required": False,
        "description": meaning,
        "schema": {"type": "string", "examples": ['"7-3f2a9c01d45e"']},
    }
    for name, meaning in (
        ("If-Match", "Entity tags, or *: 412 unless the webhook has one of them."),
        ("If-None-Match", "Entity tags, or *: 304 when the webhook has one of them."),
    )
}


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
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "whp_…",
                    "description": "An API key with the scope read or write.",
                }
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
    if operation.method == "POST":
        parameters.append(IDEMPOTENCY_KEY)
    if operation.condition:
        parameters.append(CONDITIONS[operation.condition])
    if operation.condition == "If-None-Match":
        shown["responses"]["304"] = {
            "description": "Known already; no body.",
            "headers": {"ETag": ETAG, **RATE_LIMIT},
        }
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
        return {"description": "Done; no body.", "headers": RATE_LIMIT}
    headers: dict[str, Any] = dict(RATE_LIMIT)
    if operation.shows_webhook:
        headers["ETag"] = ETAG
    if operation.method == "POST" and operation.name != "create_events":
        headers[idempotency.REPLAYED] = REPLAYED
    links = {
        f"{link.to}_by_{link.parameter}": {
            "operationId": link.to,
            "parameters": {link.parameter: f"$response.body#{link.pointer}"},
        }
        for link in LINKS.get(operation.gives, ())
    }
    # A batch is answered with a list.
    names: tuple[str, ...] = (operation.gives,)
    if len(operation.takes) > 1:
        names = ("Accepted", "AcceptedEvents")
    return {
        "description": operation.summary + ".",
        "content": {"application/json": {"schema": _one_of(names)}},
        **({"links": links} if links else {}),
        "headers": headers,
    }


def _names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": ID},
    }


def _query_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": queries.MEANINGS[name],
        "schema": queries.schema(name),
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
