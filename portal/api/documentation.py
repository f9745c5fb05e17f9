"""The API described: an OpenAPI document for machines, a page for people."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

from portal.api.answers import answer
from portal.api.blueprint import PREFIX, bp
from portal.api.openapi import document
from portal.api.openapi_schemas import SCHEMAS
from portal.api.operations import OPERATIONS
from portal.api.problems import KINDS, SPECIAL
from portal.api.queries import MEANINGS
from portal.web import rendering

VERSION = "1.0"

docs = Blueprint("api_docs", __name__, url_prefix="/api")


@bp.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI 3.1 document."""
    return answer(document(current_app.config["PORTAL"].public_url, VERSION))


@docs.get("/docs")
def index() -> Response:
    """Every endpoint, object and kind of error on one page."""
    return rendering.render(
        "api_docs/index.html",
        operations=OPERATIONS,
        schemas=SCHEMAS,
        kinds=KINDS,
        special=SPECIAL,
        meanings=MEANINGS,
        server=current_app.config["PORTAL"].public_url + PREFIX,
    )
