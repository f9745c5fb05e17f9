"""What can be wrong with a request, as data that pages and the API both show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portal.database_errors import Trouble


def pointer(*parts: object) -> str:
    """The JSON Pointer (RFC 6901) to a place in what was sent, by the names and numbers that lead
    there; without any, to the whole."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with one field.

    `pointer` leads to it in what was sent, such as `/events/3/type`; `message` is a sentence that
    names the remedy.
    """

    pointer: str
    message: str

    @property
    def parts(self) -> list[str]:
        """The names and numbers that the pointer was made of."""
        return [part.replace("~1", "/").replace("~0", "~") for part in self.pointer.split("/")[1:]]

    @property
    def field(self) -> str:
        """The first part of the pointer: the name of the form field."""
        return next(iter(self.parts), "")


class PortalError(Exception):
    """Base of everything the portal refuses, with the HTTP status that says so."""

    status = 400
    title = "The request cannot be used"
    kind = ""
    """What the API calls it where that is not the name of its status."""

    def __init__(self, detail: str, errors: list[FieldError] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []

    def by_field(self) -> dict[str, list[str]]:
        """Messages grouped by form field."""
        grouped: dict[str, list[str]] = {}
        for error in self.errors:
            grouped.setdefault(error.field, []).append(error.message)
        return grouped


class Malformed(PortalError):
    """The body cannot be read at all: not JSON, not UTF-8, too deep (400)."""

    title = "The body is not valid JSON"


class Invalid(PortalError):
    """Fields are wrong (422); `errors` names each."""

    status = 422
    title = "Some fields are wrong"

    def __init__(self, errors: list[FieldError]):
        count = len(errors)
        super().__init__(
            errors[0].message if count == 1 else f"{count} fields need another value.", errors
        )


class Unauthorized(PortalError):
    """No API key, or one that is unknown or revoked (401)."""

    status = 401
    title = "Not signed in"


class Forbidden(PortalError):
    """The key or user is known and may not do this (403)."""

    status = 403
    title = "Not allowed"


class NotFound(PortalError):
    """No such object for this merchant (404)."""

    status = 404
    title = "Not found"


class Conflict(PortalError):
    """The object is not in the state that the request expects (409)."""

    status = 409
    title = "Conflict"


class PreconditionFailed(PortalError):
    """The object is not the one that the request's If-Match names (412)."""

    status = 412
    title = "It has changed meanwhile"


class KeyReused(PortalError):
    """An Idempotency-Key came with another request before (422)."""

    status = 422
    title = "The Idempotency-Key is in use"


class TooLarge(PortalError):
    """The body is over its limit (413)."""

    status = 413
    title = "The body is too large"


class TooManyRequests(PortalError):
    """A limit is reached (429); `retry_after` says in how many seconds it ends."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, retry_after: int):
        super().__init__(detail)
        self.retry_after = retry_after


class StorageFull(TooManyRequests):
    """What the merchant may store is used up (429), however much room there is for others."""

    title = "The store's storage is full"
    kind = "storage-full"


class Unavailable(PortalError):
    """The database does not serve (503); `trouble` says why, to who runs the portal."""

    status = 503
    title = "The portal cannot store this right now"

    def __init__(self, detail: str, trouble: Trouble | None = None):
        super().__init__(detail)
        self.trouble = trouble

    @property
    def passes(self) -> bool:
        """Whether it may be over in a few seconds."""
        return self.trouble is None or self.trouble.passes
