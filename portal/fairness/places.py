"""Places: how many threads of a process may be at what takes long, in all and for one merchant. The
rest answers pages and takes events, whatever receivers and readers do."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from portal import runtime
from portal.errors import TooManyRequests

DOWNLOAD, TAIL, TEST, SEARCH, BATCH = "download", "tail", "test", "search", "batch"
TEMPLATE, PAGE, PAGE_OF_USER = "template", "page", "page of a user"
BODY, REPEAT = "body", "repeat"
RETRY_SECONDS = {
    DOWNLOAD: 10,
    TAIL: 10,
    TEST: 10,
    SEARCH: 2,
    BATCH: 2,
    TEMPLATE: 2,
    PAGE: 2,
    PAGE_OF_USER: 2,
    BODY: 2,
    REPEAT: 2,
}
_SENTENCES = {
    DOWNLOAD: "Several long downloads are running.",
    TAIL: "Several logs are being watched live.",
    TEST: "Several tests wait for their receivers to answer.",
    SEARCH: "Several searches through records are running.",
    TEMPLATE: "Several templates are being tried.",
    BATCH: "Several large batches of events are being stored.",
    BODY: "Several large batches of events are being read.",
    REPEAT: "Several events are being compared with those that came before with their IDs.",
    PAGE: "Many pages of this store were asked for at once.",
    PAGE_OF_USER: "You have asked for many pages at once.",
}


class Places:
    """The places of a process with so many threads: half of them may be downloads, a quarter live
    tails, a quarter tests, a quarter searches through records, a quarter large batches of events
    that are read, and as many that are stored, a quarter templates that are tried, a quarter long
    records that are compared with those that came before. There may be
    none for a tail, since who gets none can ask again and again instead. One merchant has half of
    each kind at most; and of pages, which are quick and of which all threads may make some, three
    quarters, as has one user."""

    def __init__(self, threads: int):
        self._most = {
            DOWNLOAD: max(1, threads // 2),
            TAIL: threads // 4,
            TEST: max(1, threads // 4),
            SEARCH: max(1, threads // 4),
            BATCH: max(1, threads // 4),
            TEMPLATE: max(1, threads // 4),
            PAGE: threads,
            PAGE_OF_USER: threads,
            BODY: max(1, threads // 4),
            REPEAT: max(1, threads // 4),
        }
        self._each = {kind: (most + 1) // 2 for kind, most in self._most.items()}
        self._each[PAGE] = self._each[PAGE_OF_USER] = max(1, threads * 3 // 4)
        self._taken: Counter[tuple[str, int | None]] = Counter()
        self._waiting: dict[str, list[int | None]] = {}
        """Who waits for a place of each kind, those first who came first."""
        self._freed = threading.Condition()

    def take(self, kind: str, merchant_id: int | None, patience: float = 0.0) -> None:
        """Take a place, for a merchant (of PAGE_OF_USER a user) or (None) for staff. Who has none
        waits for so many seconds for one that others have. Raises TooManyRequests."""
        most = self._most[kind]
        each = most if merchant_id is None else self._each[kind]
        with self._freed:
            waiting = self._waiting.setdefault(kind, [])
            if self._taken[kind, merchant_id] < each:
                may_wait = patience > 0 and merchant_id not in waiting and len(waiting) < most
                if (not waiting and self._free(kind)) or (
                    may_wait and self._is_turn(kind, merchant_id, patience)
                ):
                    self._taken[kind, merchant_id] += 1
                    return
        raise TooManyRequests(f"{_SENTENCES[kind]} Try again in a moment.", RETRY_SECONDS[kind])

    def give_back(self, kind: str, merchant_id: int | None) -> None:
        """Give back what was taken."""
        with self._freed:
            self._taken[kind, merchant_id] -= 1
            if not self._taken[kind, merchant_id]:
                del self._taken[kind, merchant_id]
            self._freed.notify_all()

    def _free(self, kind: str) -> bool:
        taken = sum(count for (what, _), count in self._taken.items() if what == kind)
        return taken < self._most[kind]

    def _is_turn(self, kind: str, merchant_id: int | None, patience: float) -> bool:
        """Whether it becomes a merchant's turn in time."""
        waiting = self._waiting[kind]
        waiting.append(merchant_id)
        try:
            return self._freed.wait_for(
                lambda: waiting[0] == merchant_id and self._free(kind), patience
            )
        finally:
            waiting.remove(merchant_id)
            self._freed.notify_all()


def places() -> Places:
    """Those of this process."""
    return runtime.part(Places)


@contextlib.contextmanager
def held(kind: str, merchant_id: int | None, patience: float = 0.0) -> Iterator[None]:
    """A place for the time of a `with`. Raises TooManyRequests."""
    own = places()
    own.take(kind, merchant_id, patience)
    try:
        yield
    finally:
        own.give_back(kind, merchant_id)
