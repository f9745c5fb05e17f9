"""A client that loads an HTTP server: so many requests at once, or so many a second.

It is libcurl's own loop and nothing of the product, so that what is measured does not measure
itself.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pycurl

TIMEOUT_SECONDS = 60


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
    url: str,
    headers: list[tuple[str, str]],
    bodies: Sequence[bytes],
    *,
    at_once: int = 8,
    per_second: float | None = None,
) -> Load:
    """POST every body; raises RuntimeError for an answer that is not 2xx."""
    multi = pycurl.CurlMulti()
    free = [_request(url, headers) for _ in range(at_once)]
    # Which body each of them has under way, and what it gets.
    busy: dict[pycurl.Curl, tuple[int, io.BytesIO]] = {}
    times: list[float] = []
    answers: list[bytes] = [b""] * len(bodies)
    answered_at = [0] * len(bodies)
    started = time.perf_counter()
    sent = 0
    while len(times) < len(bodies):
        while sent < len(bodies) and free:
            if per_second and time.perf_counter() - started < sent / per_second:
                break
            request, answer = free.pop(), io.BytesIO()
            request.setopt(pycurl.POSTFIELDS, bodies[sent])
            request.setopt(pycurl.WRITEFUNCTION, answer.write)
            multi.add_handle(request)
            busy[request] = sent, answer
            sent += 1
        multi.perform()
        _, done, failed = multi.info_read()
        if failed:
            raise RuntimeError(f"{failed[0][1]}: {failed[0][2]}")
        for request in done:
            place, answer = busy.pop(request)
            multi.remove_handle(request)
            free.append(request)
            status, body = request.getinfo(pycurl.RESPONSE_CODE), answer.getvalue()
            if not 200 <= status < 300:
                raise RuntimeError(f"{status}: {body[:200]!r}")
            times.append(request.getinfo(pycurl.TOTAL_TIME) * 1_000)
            answers[place] = body
            answered_at[place] = time.time_ns() // 1_000
        if not done:
            wait = 0.05
            if per_second and sent < len(bodies):
                wait = min(wait, max(0.0, started + sent / per_second - time.perf_counter()))
            if busy:
                multi.select(wait)
            else:
                time.sleep(wait)
    seconds = time.perf_counter() - started
    for request in [*free, *busy]:
        request.close()
    multi.close()
    return Load(seconds, times, answers, answered_at)


def _request(url: str, headers: list[tuple[str, str]]) -> pycurl.Curl:
    request = pycurl.Curl()
    request.setopt(pycurl.URL, url)
    request.setopt(pycurl.POST, 1)
    # A client that waits for “100 Continue” before a large body would measure its own patience.
    request.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers] + ["Expect:"])
    request.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    request.setopt(pycurl.PROXY, "")
    request.setopt(pycurl.NOSIGNAL, 1)
    request.setopt(pycurl.TIMEOUT, TIMEOUT_SECONDS)
    return request
