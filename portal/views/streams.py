"""Answers that take long: each holds a thread, and so one of the process's places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from portal.fairness.places import DOWNLOAD, places

Part = TypeVar("Part")


class Stream(Iterator[Part]):
    """An iterator over `parts` that holds a place, a merchant's or (None) one of staff, until it
    ends or is closed.

    Raises TooManyRequests when there is none left.
    """

    def __init__(self, parts: Iterator[Part], merchant_id: int | None, kind: str = DOWNLOAD):
        self._is_open = False
        self._places, self._place = places(), (kind, merchant_id)
        self._places.take(*self._place)
        self._parts = parts
        self._is_open = True

    def __next__(self) -> Part:
        try:
            return next(self._parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the place back; WSGI servers call it when the answer or its reader ends."""
        if self._is_open:
            self._is_open = False
            self._places.give_back(*self._place)
            closing = getattr(self._parts, "close", None)
            if closing:
                closing()

    def __del__(self) -> None:
        self.close()
