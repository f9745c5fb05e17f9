"""What sends requests and gives back what comes of them, for those who need not know how.

`portal.outbound.libcurl` has the one that the portal sends with; a test may hand in any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from portal.composing.compose import Certificate, Outgoing
from portal.outbound.response import Response

AT_ONCE_SECONDS = 0.01
"""How long sockets are looked after before `run` returns, unless told otherwise: what comes for
others meanwhile waits no longer, and what is left is next."""

Tag = TypeVar("Tag")


@dataclass(frozen=True, slots=True)
class Look:
    """Instead of a request: connect to a URL's target, by a connection of its own, and send
    nothing. The response has no status, and the end of the certificate that the target shows."""

    url: str
    certificate: Certificate | None = None
    """What to show there in TLS."""


class Watcher(Protocol):
    """What waits for files to become readable, beside its own."""

    @property
    def woken(self) -> bool:
        """Whether a watched file could be read in the last `run`."""

    def watch(self, fd: int) -> None:
        """Let `run` return early when `fd` can be read."""

    def unwatch(self, fd: int) -> None:
        """Undo `watch`, also of an `fd` that was closed meanwhile."""


class Transport(Watcher, Protocol[Tag]):
    """Sends many requests at once, for one thread, each with a tag that its response comes with."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""

    @property
    def waited_seconds(self) -> float:
        """How long `run` had nothing to do, over all calls."""

    def submit(
        self, what: Outgoing | Look, timeout_seconds: float, tag: Tag, whose: int | None = None
    ) -> None:
        """Start a request of a merchant, who has a share of the look-ups of names (None: nobody's);
        `run` gives its response, at the latest after `timeout_seconds`. A request that cannot be
        started raises nothing: its response says so."""

    def run(
        self, seconds: float, at_once_seconds: float = AT_ONCE_SECONDS
    ) -> list[tuple[Tag, Response]]:
        """Wait for up to `seconds`, until a response has come or a watched file can be read; then
        look after sockets for `at_once_seconds`."""

    def close(self) -> None:
        """Drop every request under way and every connection."""
