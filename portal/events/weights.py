"""What events are likely to owe, before anything is read for them: a transaction is as long as the
deliveries that it stores."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

MOST_MERCHANTS, MOST_TYPES = 10_000, 1_000


class Weights:
    """How many deliveries an event of each merchant and type owed last, in this process."""

    def __init__(self) -> None:
        self._owed: OrderedDict[int, dict[str, int]] = OrderedDict()
        self._mutex = threading.Lock()

    def note(self, merchant_id: int, event_type: str, owed: int) -> None:
        """An event of this type has owed so many."""
        with self._mutex:
            types = self._owed.setdefault(merchant_id, {})
            self._owed.move_to_end(merchant_id)
            if len(types) >= MOST_TYPES:
                types.clear()
            types[event_type] = owed
            if len(self._owed) > MOST_MERCHANTS:
                self._owed.popitem(last=False)

    def of(self, merchant_id: int, event_types: Iterable[str]) -> int:
        """How many deliveries events of these types are likely to owe; one of a type that is not
        known as many as any of its merchant."""
        with self._mutex:
            types = self._owed.get(merchant_id)
            if not types:
                return 0
            most = max(types.values())
            return sum(types.get(event_type, most) for event_type in event_types)
