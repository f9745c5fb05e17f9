"""How many deliveries events will probably owe, before anything is read for them: a transaction
takes as long as the deliveries that it stores."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

MOST_MERCHANTS, MOST_TYPES = 10_000, 1_000


class Weights:
    """How many deliveries the last event of each merchant and type owed, in this process."""

    def __init__(self) -> None:
        self._owed: OrderedDict[int, dict[str, int]] = OrderedDict()
        self._mutex = threading.Lock()

    def note(self, merchant_id: int, event_type: str, owed: int) -> None:
        """Remember how many deliveries an event of this type owed."""
        with self._mutex:
            types = self._owed.setdefault(merchant_id, {})
            self._owed.move_to_end(merchant_id)
            if len(types) >= MOST_TYPES:
                types.clear()
            types[event_type] = owed
            if len(self._owed) > MOST_MERCHANTS:
                self._owed.popitem(last=False)

    def of(self, merchant_id: int, event_types: Iterable[str]) -> int:
        """How many deliveries events of these types will probably owe; for an unknown type, the
        most that an event of its merchant has owed."""
        with self._mutex:
            types = self._owed.get(merchant_id)
            if not types:
                return 0
            most = max(types.values())
            return sum(types.get(event_type, most) for event_type in event_types)
