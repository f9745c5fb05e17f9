"""What became of an event, at a glance and webhook by webhook, in plain words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from portal.diagnosis import diagnoses, explain
from portal.events import matching
from portal.logs.stories import CREATED_AFTER, TEST_OF_ANOTHER, UNKNOWN, WAS_INACTIVE, Destination
from portal.models import Attempt


@dataclass(frozen=True)
class Glance:
    """An event's outcome in one line. `counts` by state; `next_attempt_at` (Unix µs) is the
    earliest of those that wait for one; `kind` is good, warn, bad or info."""

    title: str
    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    next_attempt_at: int | None = None


@dataclass(frozen=True)
class Verdict:
    """Why a webhook did or did not get an event, and what to do where something can be done.
    `mend` names the page that helps: `edit`, `show`, or nothing."""

    why: str
    remedy: str = ""
    mend: str = ""


_NOT_SENT = {
    matching.NOT_SUBSCRIBED: Verdict(
        "It is not triggered by this type.", "If it should be, add the type to its events.", "edit"
    ),
    matching.SOURCE_FILTERED: Verdict(
        "Its source filter leaves out who made this change.",
        "That is what keeps an application from hearing its own changes. If it is too strict, "
        "change the filter.",
        "edit",
    ),
    matching.DISABLED: Verdict(
        "It was disabled.",
        "Enable it, so that it gets the next ones; this one is not sent to it later.",
        "show",
    ),
    matching.FEATURE_INACTIVE: Verdict(
        "The merchant’s webhooks are not active.",
        "Ask the platform’s staff to activate them, for the next ones.",
    ),
    WAS_INACTIVE: Verdict("The merchant’s webhooks were not active when it came."),
    CREATED_AFTER: Verdict("It was made after the event."),
    TEST_OF_ANOTHER: Verdict("This was a test of another webhook."),
    UNKNOWN: Verdict(
        "Its events and its filter of now take it. When the event came they were others, it was "
        "disabled, or the merchant’s webhooks were not active."
    ),
}


def glance(destinations: Sequence[Destination]) -> Glance:
    """What became of an event, over all webhooks that it was owed to."""
    owed = [one for one in destinations if one.delivery is not None]
    if not owed:
        return Glance("No webhook was told", "info")
    counts = Counter(one.state or "" for one in owed)
    arrived, total = counts["succeeded"], len(owed)
    if arrived == total:
        title = "Delivered" if total == 1 else f"Delivered to all {total} webhooks"
    else:
        title = f"Delivered to {arrived} of {total} webhook{'s' if total > 1 else ''}"
    waiting = [
        one.delivery.next_attempt_at
        for one in owed
        if one.delivery and one.state == "pending" and one.delivery.next_attempt_at
    ]
    return Glance(title, _kind(counts, total), counts, min(waiting, default=None))


def _kind(counts: Counter[str], total: int) -> str:
    if counts["failed"]:
        return "bad"
    if counts["held"]:
        return "warn"
    return "good" if counts["succeeded"] == total else "info"


def verdict(destination: Destination) -> Verdict:
    """Why one webhook did or did not get the event, and what to do."""
    delivery, webhook = destination.delivery, destination.webhook
    if delivery is None:
        return _NOT_SENT[destination.reason or UNKNOWN]
    last = destination.attempts[0] if destination.attempts else None
    failure = _failure(last)
    if destination.state == "succeeded":
        return Verdict(_delivered(destination))
    if destination.state == "discarded":
        return Verdict(
            delivery.reason or "It was discarded.",
            "" if destination.not_again else "If it should arrive after all, send it again.",
        )
    if destination.state == "held" and webhook is not None:
        if not webhook.enabled:
            return Verdict(
                "It waits, since the webhook is disabled.",
                "Enable the webhook, and it is sent.",
                "show",
            )
        return Verdict(
            f"It waits, since the webhook keeps failing. {failure.why}".strip(),
            f"{failure.remedy} When it answers again, everything that waits is sent.".strip(),
            failure.mend or "show",
        )
    if destination.state == "pending":
        return failure if last else Verdict("It is on its way.")
    why = f"{failure.why} No attempt is left.".strip()
    return Verdict(f"{why} {delivery.reason or ''}".strip(), failure.remedy, failure.mend)


def _delivered(destination: Destination) -> str:
    """That it got it, and what became of sending it once more."""
    delivery, last = destination.delivery, destination.attempts[0] if destination.attempts else None
    tries = delivery.attempts if delivery is not None else 1
    again = ""
    if last is not None and not last.ok:
        tries = max((attempt.number for attempt in destination.attempts if attempt.ok), default=1)
        again = " Sent once more it did not arrive; it stays delivered."
    if delivery is not None and delivery.is_resent:
        again = " It is being sent once more."
    return ("It got it." if tries < 2 else f"It got it, on attempt {tries}.") + again


def _failure(last: Attempt | None) -> Verdict:
    if last is None or last.ok:
        return Verdict("")
    said = explain.diagnose(False, last.status, last.error)
    return Verdict(f"{said.title}.", said.remedy, "edit" if said.whom == diagnoses.WEBHOOK else "")
