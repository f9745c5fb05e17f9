"""What comes back of one request."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Response:
    """What came back, or why nothing did. Times are in µs; a part that did not happen is None."""

    status: int | None = None
    error: str | None = None
    error_detail: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    truncated: bool = False
    sends: int = 0
    """How often the request was sent: twice where the first connection died without an answer."""
    came: int = 0
    """How many bytes of it have come, whatever was kept of them."""
    duration_us: int = 0
    dns_us: int | None = None
    connect_us: int | None = None
    tls_us: int | None = None
    send_us: int | None = None
    wait_us: int | None = None
    download_us: int | None = None
    certificate_ends_at: int | None = None
    """The last moment of the target's certificate (Unix µs), where that was looked at."""
