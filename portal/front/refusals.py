"""What is answered before there is a request for the pages, so that many of them cost little."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from portal.journal import request_ids


@dataclass
class Refused(Exception):
    """A request that is not let in: its status, a sentence with the remedy, and how many seconds
    later it is worth trying again, where it is."""

    status: HTTPStatus
    sentence: str
    retry_after: int | None = None
    kind: str = field(default="")

    def answer(self, path: str, documentation: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body: for programs as everywhere in the API (RFC 9457)."""
        request_id = request_ids.new()
        headers = [
            (request_ids.HEADER, request_id),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        if not path.startswith("/api/"):
            headers.append(("Content-Type", "text/plain; charset=utf-8"))
            return self.status, headers, self.sentence.encode() + b"\n"
        headers.append(("Content-Type", "application/problem+json"))
        content: dict[str, Any] = {
            "type": f"{documentation}#{self.kind}",
            "title": self.status.phrase,
            "status": self.status,
            "detail": self.sentence,
            "request_id": request_id,
        }
        return self.status, headers, json.dumps(content).encode()


def slow() -> Refused:
    """A body that did not come in time."""
    return Refused(
        HTTPStatus.REQUEST_TIMEOUT,
        "The body did not come in time. Send the request again.",
        kind="timeout",
    )


def ended() -> Refused:
    """A body that is shorter than was declared."""
    return Refused(
        HTTPStatus.BAD_REQUEST,
        "The body ended before its declared length; send it again.",
        kind="malformed",
    )


def unreadable(name: str) -> Refused:
    """A header with letters that are not read here."""
    if name == "cookie":
        return Refused(
            HTTPStatus.BAD_REQUEST,
            "A cookie that was sent here holds letters beyond ASCII, which cannot be read. Delete "
            "the cookies of this address and of the one above it; whoever sets them must encode "
            "them.",
            kind="malformed",
        )
    return Refused(
        HTTPStatus.BAD_REQUEST,
        f"The header {name.title()} holds letters beyond ASCII, which cannot be read. Send it "
        "without them.",
        kind="malformed",
    )


def large_cookies() -> Refused:
    """More cookies than are read here."""
    return Refused(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The cookies that were sent here are too large or too many. Delete the cookies of this "
        "address and of the one above it.",
        kind="malformed",
    )


def too_many() -> Refused:
    """One more request at once than a network may have."""
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests at once from your network. Send fewer at a time.",
        1,
        "too-many-requests",
    )


def too_many_pages() -> Refused:
    """A page, while others of the same sign-in are being made."""
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Many pages were asked for at once from your browser. Try again in a moment.",
        2,
        "too-many-requests",
    )


def heavy() -> Refused:
    """One more request of who uses much of the processor, while others ask too."""
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Your requests need much of the server's time, and others wait too. Send fewer at a time, "
        "and try again in a moment.",
        5,
        "too-many-requests",
    )


def many_strangers() -> Refused:
    """One more request of nobody who is known, while many such wait."""
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Many who have not signed in ask at once, from many addresses. Try again in a moment.",
        5,
        "unavailable",
    )


def crowded() -> Refused:
    """A large body, while others are being read."""
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Several large requests are being read; nothing was stored. Try again in a moment.",
        5,
        "unavailable",
    )
