"""A client that loads an HTTP server: so many requests at once, or so many a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from portal.composing.compose import Frame, Outgoing
from portal.outbound.transport import Transport
from portal.settings.setting_values import Network


@dataclass
class Load:
    """What came of it: seconds in all, and the milliseconds of each answer."""

    seconds: float
    milliseconds: list[float]
    bodies: list[bytes]
    answered_at: list[int]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.milliseconds) / self.seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def post(
    url: str, headers: list[tuple[str, str]], bodies: Sequence[bytes], *, at_once: int = 8,
    per_second: float | None = None, allow: Sequence[Network] = (),
) -> Load:
    """POST every body; raises RuntimeError for an answer that is not 2xx."""
    transport: Transport[int] = Transport(allow)
    frame = Frame("POST", url, headers, url, headers)
    times: list[float] = []
    answers: list[bytes] = [b""] * len(bodies)
    answered_at = [0] * len(bodies)
    started = time.perf_counter()
    sent = 0
    while len(times) < len(bodies):
        while sent < len(bodies) and transport.in_flight < at_once:
            if per_second and time.perf_counter() - started < sent / per_second:
                break
            transport.submit(Outgoing(frame, [], bodies[sent], "own"), 60, sent)
            sent += 1
        wait = 0.05
        if per_second and sent < len(bodies):
            wait = max(0.0, started + sent / per_second - time.perf_counter())
        for tag, answer in transport.run(wait):
            if answer.status is None or not 200 <= answer.status < 300:
                raise RuntimeError(f"{answer.status} {answer.error}: {answer.body[:200]!r}")
            times.append(answer.duration_us / 1_000)
            answers[tag] = answer.body
            answered_at[tag] = time.time_ns() // 1_000
    seconds = time.perf_counter() - started
    transport.abort()
    return Load(seconds, times, answers, answered_at)
