"""The lines of a drain, one for each webhook, so that a receiver that hangs uses up its own cap and
nothing else. What they read ahead has a common bound.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import sqlalchemy as sa

from portal.clock import now
from portal.db.session import db, reading, table
from portal.delivery import health, lanes
from portal.delivery.due import DueDelivery
from portal.delivery.line import Line
from portal.delivery.paces import PACES, Paces
from portal.delivery.reading import BOTH
from portal.models import Webhook

BUFFER, BUFFER_OF_HEAVY = 200, 50
"""How many deliveries are read ahead for a webhook, and for one of a heavy merchant (shares)."""
BUFFER_BYTES = 32 * 1024 * 1024
"""How much payload is read ahead for all webhooks; beyond it each gets one delivery at a time."""


class Lines:
    """All lines of a drain."""

    def __init__(self, paces: Paces = PACES) -> None:
        self._paces = paces
        self.is_cut = False
        """Whether more would have been read, had there been time."""
        self._lines: dict[str, Line] = {}
        self._buffered_bytes = 0
        self._rests: dict[tuple[int, bool], float] = {}
        """Until when (this process's clock) nothing is read for the webhooks of a merchant that are
        held (True) or are not."""

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def get(self, webhook_id: str) -> Line | None:
        """A webhook's line, if it has one now."""
        return self._lines.get(webhook_id)

    def pop(self, line: Line) -> DueDelivery:
        """The next delivery that was read ahead for a webhook."""
        first = line.buffer.popleft()
        self._buffered_bytes -= first.size
        return first

    def drop_buffer(self, line: Line) -> None:
        """Forget what was read ahead for a webhook; it stays due in the database."""
        self._buffered_bytes -= line.drop_buffer()

    def leave_out(self, some: Iterable[DueDelivery]) -> None:
        """Leave deliveries whose results cannot be recorded to the next owners of their lanes."""
        for one in some:
            if (line := self._lines.get(one.webhook_id)) is not None:
                line.leave_out(one)

    def drop(self, lanes_left: Iterable[int]) -> None:
        """Forget the webhooks of lanes that this drain no longer owns."""
        left = set(lanes_left)
        for line in [line for line in self if line.lane in left]:
            self.drop_buffer(line)
            del self._lines[line.webhook_id]

    def read(
        self,
        look_in: Iterable[int] | None,
        leaving: int | None,
        heavy: Mapping[int, float] = MappingProxyType({}),
        *,
        is_whole: bool = True,
    ) -> None:
        """Read ahead what is due, except in the lane that is being handed over. Where there are
        lanes to `look_in`, first find their webhooks that have something due. It ends after a
        slice of time.

        `heavy` says for how many seconds each heavy merchant is kept back. What others have due is
        read first, and in a round of its own; a look that is not `is_whole` is for them alone.
        """
        self.is_cut = False
        self._end_rests(time.monotonic())
        for line in self:
            if line.takes_over_silence():
                self.drop_buffer(line)
        if look_in is None and not self._to_fill(leaving, heavy):
            return
        with reading(each_alone=True):
            if look_in is not None:
                self._look(sorted(look_in), () if is_whole else heavy)
            paces = self._paces
            end = time.monotonic() + (paces.short_slice_seconds if heavy else paces.slice_seconds)
            # Who reads from SQLite does all of it. That it waited for a processor meanwhile is no
            # fault of the merchant, whose next delivery would wait four times as long again.
            does_all = db.engine.dialect.name == "sqlite"
            worked = time.thread_time if does_all else time.monotonic
            was_heavy = True
            for count, line in enumerate(self._to_fill(leaving, heavy)):
                is_heavy = line.merchant_id in heavy
                if count and (time.monotonic() >= end or (is_heavy and not was_heavy)):
                    self.is_cut = True
                    break
                want, was_heavy = BUFFER_OF_HEAVY if is_heavy else BUFFER, is_heavy
                started = worked()
                self._buffered_bytes += line.fill(
                    want if self._buffered_bytes < BUFFER_BYTES else 1, now()
                )
                took = worked() - started
                is_search = line.searches and (line.is_held or not line.buffer)
                if is_search and took > paces.unnoticed_seconds:
                    rested_at = time.monotonic() + paces.read_rests * took
                    self._rests[line.merchant_id, line.is_held] = rested_at
        self._hold_unreadable()

    def rests(self) -> list[float]:
        """For how many more seconds nothing is read, of each merchant for whom that is so."""
        clock = time.monotonic()
        self._end_rests(clock)
        return [until - clock for until in self._rests.values()]

    def _end_rests(self, clock: float) -> None:
        self._rests = {one: until for one, until in self._rests.items() if until > clock}

    def _look(self, look_in: list[int], passing_over: Collection[int]) -> None:
        """Find the webhooks that have something due, except those of some merchants, and take over
        changes of their settings."""
        moment = now()
        rows = db.session.execute(
            _HAVE_DUE, {"moment": moment, "lanes": look_in, "passing_over": sorted(passing_over)}
        ).all()
        wanted = {row.id for row in rows}
        for webhook_id, line in list(self._lines.items()):
            if webhook_id not in wanted and line.merchant_id not in passing_over:
                # It is disabled or deleted, or nothing is due: what was read ahead is not sent.
                self.drop_buffer(line)
                if not line.is_busy:
                    del self._lines[webhook_id]
        for row in rows:
            line, kinds = self._lines.get(row.id) or Line(), row[-len(BOTH) :]
            expired = line.secrets_until is not None and line.secrets_until <= moment
            if line.updated_at != row.updated_at or expired:
                self.drop_buffer(line)
                line.take_settings(row, moment)
            # Only once it has settings: reading them may have failed.
            self._lines[row.id] = line
            line.start_over([kind for kind, is_due in zip(BOTH, kinds, strict=True) if is_due])

    def _hold_unreadable(self) -> None:
        moment = now()
        for line in self:
            if not line.is_readable and not line.health.rests(moment):
                hold = health.hold_unreadable if line.is_usable else health.hold_unusable
                line.take_health(hold(line.webhook_id, moment))

    def _to_fill(self, leaving: int | None, heavy: Mapping[int, float]) -> list[Line]:
        """The lines to read for: merchants with the least under way first, heavy ones last."""
        moment = now()
        found = [
            line
            for line in self
            if line.may_have_more
            and not line.buffer
            and line.room(moment)
            and line.lane != leaving
            and not heavy.get(line.merchant_id)
            and (line.merchant_id, line.is_held) not in self._rests
        ]
        if len(found) > 1:
            under_way = Counter[int]()
            for line in self:
                under_way[line.merchant_id] += len(line.known)
            found.sort(
                key=lambda line: (
                    line.merchant_id in heavy,
                    under_way[line.merchant_id],
                    len(line.known),
                )
            )
        return found


_webhook = table(Webhook)
_KINDS_DUE = [lanes.has_due(is_retry) for is_retry in BOTH]
_HAVE_DUE = sa.select(
    _webhook.c.id, _webhook.c.updated_at, _webhook.c.merchant_id, _webhook.c.lane, *_KINDS_DUE
).where(
    _webhook.c.lane.in_(sa.bindparam("lanes", expanding=True)),
    _webhook.c.enabled,
    _webhook.c.deleted_at.is_(None),
    _webhook.c.merchant_id.not_in(sa.bindparam("passing_over", expanding=True)),
    sa.or_(*_KINDS_DUE, _webhook.c.catch_up_from.is_not(None), lanes.MAY_PROBE),
)
