"""The requests of one transport that wait for the addresses of names."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from portal.outbound import names
from portal.outbound.names import Ask
from portal.outbound.transfer import Transfer


@dataclass(slots=True)
class Waited:
    """A request that waits no longer: there are addresses, the name has none, or its time `is_over`
    and nothing is known."""

    transfer: Transfer[Any]
    addresses: Sequence[str] = ()
    is_over: bool = False


class _Group(NamedTuple):
    ask: Ask
    transfers: list[Transfer[Any]]


class Waiting:
    """For one thread. Those of one merchant that want the same name wait for one look-up."""

    def __init__(self) -> None:
        self._look_ups = names.look_ups
        self._bell: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._told: deque[tuple[tuple[str, int | None], list[str]]] = deque()
        self._groups: dict[tuple[str, int | None], _Group] = {}
        self._count = 0
        self._ends_at = inf
        """Not later than when the first of them has waited for as long as it may."""

    def __len__(self) -> int:
        return self._count

    @property
    def bell(self) -> int:
        """Can be read when addresses have come."""
        assert self._bell is not None
        return self._bell

    def add(self, transfer: Transfer[Any]) -> None:
        """Have the name looked up that a transfer wants; `collect` gives it back."""
        key = transfer.name or "", transfer.whose
        self._count += 1
        self._ends_at = min(self._ends_at, transfer.ends_at)
        if key in self._groups:
            self._groups[key].transfers.append(transfer)
            return

        def tell(found: list[str]) -> None:
            self._told.append((key, found))
            os.eventfd_write(self.bell, 1)

        self._groups[key] = _Group(self._look_ups.ask(*key, tell), [transfer])

    def seconds_left(self) -> float:
        """How long nothing has to be collected unless the bell rings."""
        return max(0.0, self._ends_at - time.monotonic())

    def collect(self) -> list[Waited]:
        """Those that wait no longer."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell)
        found: list[Waited] = []
        while self._told:
            key, addresses = self._told.popleft()
            # They may have waited for too long meanwhile.
            if (group := self._groups.pop(key, None)) is not None:
                found += [Waited(transfer, addresses) for transfer in group.transfers]
        if (moment := time.monotonic()) >= self._ends_at:
            found += [Waited(one, is_over=True) for one in self._take_overdue(moment)]
        self._count -= len(found)
        return found

    def _take_overdue(self, moment: float) -> list[Transfer[Any]]:
        overdue = []
        self._ends_at = inf
        for key, (ask, transfers) in list(self._groups.items()):
            left = [transfer for transfer in transfers if transfer.ends_at > moment]
            overdue += [transfer for transfer in transfers if transfer.ends_at <= moment]
            if left:
                self._groups[key] = _Group(ask, left)
                self._ends_at = min(self._ends_at, *(transfer.ends_at for transfer in left))
            else:
                del self._groups[key]
                self._look_ups.leave(ask)
        return overdue

    def close(self) -> None:
        """Forget all of them."""
        for group in self._groups.values():
            self._look_ups.leave(group.ask)
        self._groups.clear()
        self._count = 0
        if self._bell is not None:
            os.close(self._bell)
            self._bell = None
