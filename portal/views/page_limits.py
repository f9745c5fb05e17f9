"""How many pages the members of a merchant, and one user, may have made at once and in a second: a
member with a program that asks for pages leaves threads and processors to everybody else.

Counted in each web process by itself, as the API's limits are. Staff are not meant.
"""

from __future__ import annotations

import math
import time

from flask import Flask, current_app, g, request
from flask_login import current_user

from portal import runtime
from portal.api.limits import Debts
from portal.errors import TooManyRequests
from portal.fairness.places import PAGE, PAGE_OF_USER, places


class PageLimits:
    """What one process has counted."""

    def __init__(self) -> None:
        self.by_merchant, self.by_user = Debts(), Debts()


def init_app(app: Flask) -> None:
    """Look at each request for a page, once it is known whose it is."""
    app.before_request(admit)
    app.teardown_request(give_back)


def admit() -> None:
    """Take a member's request for a page, and count it. Raises TooManyRequests."""
    g.page_places = []
    if request.blueprint == "api" or not g.roles or current_user.staff_role:
        return
    merchant_id = (
        g.merchant.id
        if g.merchant
        else min((one.merchant_id for one in current_user.memberships), default=None)
    )
    own = runtime.part(PageLimits)
    for debts, kind, who, whose in (
        (own.by_user, PAGE_OF_USER, current_user.id, "You have"),
        (own.by_merchant, PAGE, merchant_id, "This store has"),
    ):
        if who is not None:
            _count(debts, who, whose)
            places().take(kind, who)
            g.page_places.append((kind, who))


def _count(debts: Debts, who: int, whose: str) -> None:
    most, clock = current_app.config["PORTAL"].page_requests, time.monotonic()
    if not most:
        return
    seconds = debts.seconds(who, most, clock)
    if seconds > 0:
        raise TooManyRequests(
            f"{whose} asked for more than {most:,} pages a second. Wait a moment, then reload; "
            "programs ask the API.",
            math.ceil(seconds),
        )
    debts.add(who, 1, most, clock)


def give_back(_error: BaseException | None = None) -> None:
    """Give a page's places back, whatever came of it."""
    for kind, who in g.pop("page_places", ()):
        places().give_back(kind, who)
