"""Where the time of an attempt went, part by part. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from portal.models import Attempt

NOTICEABLE_US = 500
"""A rest shorter than this is rounding, not waiting."""

_BLOCKED = ("Blocked", "until the connection was free for this request")
_FIRST_TRY = ("First try", "on a connection that died; then the request went out again")
_SEND = ("Send", "handing the request to the network")


@dataclass(frozen=True)
class Phase:
    """A part of an attempt: how long it took (µs), and its start and width in percent of all.

    `failed` marks the part in which the attempt ended without an answer.
    """

    label: str
    hint: str
    took: int
    start: float
    width: float
    failed: bool = False


def parts(attempt: Attempt) -> list[Phase]:
    """The parts of an attempt that happened, in their order."""
    total = attempt.duration_us
    found: list[Phase] = []
    if not total:
        return found
    at = 0

    def add(label: str, hint: str, took: int | None, failed: bool = False) -> None:
        nonlocal at
        if took is None:
            return
        took = min(took, max(0, total - at))
        found.append(Phase(label, hint, took, at * 100 / total, took * 100 / total, failed))
        at += took

    add("DNS", "looking the host name up", attempt.dns_us)
    add("Connect", "opening the TCP connection", attempt.connect_us)
    add("TLS", "agreeing on encryption", attempt.tls_us)
    if attempt.status is None or attempt.wait_us is None:
        # It ended here, before the first byte of an answer; libcurl's later times mean nothing.
        if attempt.send_us is not None and attempt.sends != 0:
            add(*_SEND, attempt.send_us)
        add(*_unfinished(attempt), total - at, failed=True)
        return found
    rest = total - at - (attempt.send_us or 0) - attempt.wait_us - (attempt.download_us or 0)
    if rest > NOTICEABLE_US:
        add(*(_FIRST_TRY if (attempt.sends or 0) > 1 else _BLOCKED), rest)
    if attempt.send_us is None:
        add("Send and wait", "sending, then until the answer’s first byte", attempt.wait_us)
    else:
        add(*_SEND, attempt.send_us)
        add("Wait", "until the answer’s first byte", attempt.wait_us)
    add("Download", "reading the answer", attempt.download_us, failed=attempt.error is not None)
    return found


def _unfinished(attempt: Attempt) -> tuple[str, str]:
    if attempt.error == "dns_failed":
        return "DNS", "until it was given up"
    if attempt.connect_us is None:
        return "Connect", "until it was given up"
    if (attempt.error or "").startswith("tls_"):
        return "TLS", "until it was given up"
    if attempt.send_us is not None:
        return "Wait", "until it was given up, without an answer"
    return "Send and wait", "until it was given up, without an answer"
