"""What an attempt's outcome means and what to do about it, in sentences. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin

ERRORS = {
    "answer_cut_short": "The answer ended before its announced length. The status counts as not "
    "received; look for a crash or a proxy's limit at the receiver.",
    "bad_answer": "The answer's encoding is broken. Let the receiver answer without compression.",
    "connect_failed": "No connection came about: the network or the host is unreachable. Check "
    "the URL, and the receiver's firewall.",
    "connect_timeout": "No connection within the time limit. The host may be down, or a firewall "
    "drops the packets silently.",
    "connection_refused": "The host is there, and nothing listens on the port. Start the "
    "receiver, or correct the port in the URL.",
    "connection_reset": "The receiver closed the connection in the middle. Look into its log at "
    "this time.",
    "dns_failed": "The host name could not be resolved. Check the URL for a typing mistake, and "
    "the domain's DNS.",
    "egress_refused": "The portal does not send to this address, since it is private or "
    "reserved. Use a public address, or ask the operator to allow the network.",
    "empty_answer": "The receiver closed the connection without an answer. Look into its log at "
    "this time.",
    "headers_too_large": "The answer's headers are too many or too long. Let the receiver answer "
    "with fewer.",
    "http2_error": "The receiver broke the HTTP/2 protocol. Update it, or turn HTTP/2 off there.",
    "invalid_header": "A header's value cannot be sent. Correct the webhook's headers, or the "
    "event data that its template takes.",
    "invalid_url": "The URL cannot be requested. Correct it, or the event data that its "
    "parameters take.",
    "not_http": "What answered does not speak HTTP. Check the port, and http or https in the URL.",
    "payload_expired": "The event's record data went past its days before it could be sent. Send "
    "a new event.",
    "request_failed": "The request failed; the detail says what the network library reported.",
    "template_error": "A template of the webhook failed with this event. Correct it; the preview "
    "shows what it makes.",
    "timeout": "The receiver took longer than the time limit. Let it answer at once and work "
    "afterwards, or raise the webhook's timeout.",
    "tls_expired": "The receiver's certificate has expired. Renew it.",
    "tls_failed": "The encrypted connection failed. Check that the port speaks TLS 1.2 or newer.",
    "tls_not_yet_valid": "The receiver's certificate is not valid yet. Check its dates and the "
    "receiver's clock.",
    "tls_self_signed": "The receiver's certificate is signed by itself. Use one of a known "
    "authority.",
    "tls_untrusted": "The receiver's certificate is not of a known authority, or its chain is "
    "incomplete. Let the receiver send the whole chain.",
    "tls_wrong_host": "The receiver's certificate is for another host name. Use the name that it "
    "is for, or a certificate for this one.",
}
"""Each error code of an attempt: what it means, and what to do."""

_STATUSES = {
    400: "The receiver could not read the request. Compare the body with what it expects.",
    401: "The receiver wants credentials. Set the header or parameter that it asks for.",
    403: "The receiver refuses these credentials. Check the secret, and what they may do.",
    404: "There is nothing at this URL. Check its path.",
    405: "The receiver does not take this method there. Choose another in the webhook.",
    408: "The receiver gave up waiting. It is tried again.",
    410: "The receiver asks for no more: the webhook was disabled. Enable it when that was a "
    "mistake.",
    413: "The receiver finds the body too large. Leave the object record out, or raise its limit.",
    415: "The receiver does not take this content type. Set the Content-Type header it expects.",
    422: "The receiver understood the request and refuses its content. Its answer may say why.",
    429: "The receiver asks for fewer requests. The portal slows down and tries again.",
}
_CLASSES = {
    2: "Success.",
    3: "Redirects are not followed.",
    4: "The receiver refuses the request. Its answer may say why.",
    5: "The receiver failed. Look into its log at this time; the request is tried again.",
}
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html)[\s>]", re.I | re.S)
_UNREADABLE = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
HEX_BYTES = 4_096
"""Bytes of a binary body that are shown."""


def outcome(status: int | None, error: str | None) -> str:
    """What came of an attempt, and what to do, in a sentence or two."""
    if error is not None:
        return ERRORS.get(error, "The request failed.")
    if status is None:
        return "No answer came."
    return _STATUSES.get(status) or _CLASSES.get(
        status // 100, "This is no status of HTTP, so the attempt counts as failed."
    )


def redirect_target(
    status: int | None, uri: str, headers: Iterable[tuple[str, str]] | None
) -> str | None:
    """Where a redirect leads, as an absolute URL; None when the answer is no redirect."""
    if status is None or not 300 <= status < 400:
        return None
    for name, value in headers or []:
        if name.lower() == "location":
            try:
                return urljoin(uri, value.strip())
            except ValueError:
                return value
    return None


def is_web_page(
    ok: bool, headers: Iterable[tuple[str, str]] | None, body: bytes | None
) -> bool:
    """Whether a success is suspicious: an HTML page, such as one to sign in, where a receiver
    of webhooks has nothing to show."""
    if not ok or not body:
        return False
    declared = any(
        name.lower() == "content-type" and value.lower().strip().startswith("text/html")
        for name, value in headers or []
    )
    return declared or _HTML.match(body) is not None


@dataclass(frozen=True)
class Readable:
    """A body for people: text and its language, or a dump of bytes (`is_binary`)."""

    text: str
    language: str
    is_binary: bool
    is_cut: bool = False


def readable(body: bytes) -> Readable:
    """A body as text where it is UTF-8 without control characters, otherwise as a hex dump of
    its first HEX_BYTES."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        # Cut off in the middle of a character it is text all the same.
        if error.end < len(body) or error.reason != "unexpected end of data":
            return _dump(body)
        text = body[: error.start].decode("utf-8")
    if _UNREADABLE.search(body):
        return _dump(body)
    return Readable(text, "json" if _is_json(text) else "text", is_binary=False)


def _dump(body: bytes) -> Readable:
    lines = []
    for start in range(0, min(len(body), HEX_BYTES), 16):
        part = body[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {letters}")
    return Readable("\n".join(lines), "text", is_binary=True, is_cut=len(body) > HEX_BYTES)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True
