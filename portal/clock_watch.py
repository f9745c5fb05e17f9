"""Whether the clock is to be believed before something is deleted, disabled or told by it.

A clock that jumps ahead, by a repair of NTP, a machine that is resumed or a mistake, makes
everything old at once; when it is set right again, what was deleted meanwhile is gone. So the last
moment seen is kept in the database, with how long the machine had been running then (sleep
included), which no change of the clock touches. A clock that is further ahead than that explains is
in doubt until WAIT has really passed with it: then it is a clock that somebody wants.

Where the machine was started anew, or is another one, nothing tells how long the portal was off: up
to STOPPED is believed.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from portal import runtime
from portal.clock import DAY, HOUR, MINUTE, SECOND, now, readable
from portal.db.session import insert_into, reading, table, writing
from portal.errors import Unavailable
from portal.models import ClockSeen, OperationsEntry

STEP = HOUR
"""How far a clock may be put ahead without doubt."""
STOPPED = DAY
"""How long the portal may have been off, where nothing tells for how long it was."""
WAIT = HOUR
"""How long a clock is in doubt."""
KNOWN_SECONDS = 5.0
"""How long a process remembers what the database has."""
NOTED_EVERY = MINUTE
KIND = "clock"
"""Of entries in the operations log."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_seen = table(ClockSeen)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What is noted of a machine's clock, as models.ClockSeen has it."""

    ahead: int
    seen_at: int
    doubted_ahead: int | None = None
    doubted_from: int | None = None

    @property
    def is_doubted(self) -> bool:
        """Whether the clock is in doubt."""
        return self.doubted_from is not None


@dataclass
class KnownClock:
    """What the database had of this machine's clock when this process read it last, and the newest
    moment of all machines."""

    at: float = float("-inf")
    known: Seen | None = None
    newest: int | None = None

    def forget(self) -> None:
        """Have it read again."""
        self.at = float("-inf")


@dataclass(frozen=True)
class Doubt:
    """A clock that is in doubt: how far it is ahead of what explains it (µs), and the moment from
    which on it is believed (Unix µs)."""

    by: int
    until: int

    @property
    def sentence(self) -> str:
        """What people who run the portal are told."""
        return (
            f"The clock is ahead by {_in_words(self.by)} more than the time that has passed, as "
            "far as the portal knows. Nothing is deleted, disabled or warned of because of its age "
            f"until {readable(self.until)}. Set the clock right before that, or, if it is right, "
            "do nothing."
        )


def judge(known: Seen | None, newest: int | None, moment: int, since_boot: int) -> Seen:
    """What is to be noted of a machine's clock that shows `moment` (Unix µs), `since_boot` µs after
    its start, given what was noted of it and, where nothing was, the `newest` moment that any
    machine has noted. Pure."""
    ahead = moment - since_boot
    believed = Seen(ahead, moment)
    if known is None:
        if newest is None or moment - newest <= STOPPED:
            return believed
        return Seen(newest - since_boot, newest, ahead, since_boot)
    if ahead - known.ahead <= STEP:
        return believed
    if known.doubted_from is None or abs(ahead - (known.doubted_ahead or 0)) > STEP:
        return replace(known, doubted_ahead=ahead, doubted_from=since_boot)
    return believed if since_boot - known.doubted_from >= WAIT else known


def sure_moment() -> int | None:
    """The current moment (Unix µs); None while the clock is in doubt. What it finds is noted, so it
    is not to be asked for within a transaction that writes. Raises Unavailable."""
    moment, since_boot = _clocks()
    known, newest = _known()
    found = judge(known, newest, moment, since_boot)
    if _is_news(known, found):
        found = _note(moment, since_boot)
    return None if found.is_doubted else moment


def is_doubted() -> bool:
    """Whether the clock is in doubt now, as `sure_moment`; also where the database cannot say."""
    try:
        return sure_moment() is None
    except Unavailable:
        return True


def seems_doubted() -> bool:
    """As `is_doubted`, but notes nothing: for a thread that must not wait for its turn to write."""
    try:
        return doubt() is not None
    except Unavailable:
        return True


def doubt() -> Doubt | None:
    """How far the clock is in doubt; None as a rule. Notes nothing."""
    moment, since_boot = _clocks()
    found = judge(*_known(), moment, since_boot)
    if found.doubted_from is None:
        return None
    return _doubt(found, moment, since_boot)


def _doubt(found: Seen, moment: int, since_boot: int) -> Doubt:
    passed = since_boot - (found.doubted_from or 0)
    return Doubt(moment - since_boot - found.ahead, moment + WAIT - passed)


def _clocks() -> tuple[int, int]:
    return now(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


def _known() -> tuple[Seen | None, int | None]:
    """What the database has of this machine, and the newest moment of all; remembered."""
    kept = runtime.part(KnownClock)
    if time.monotonic() - kept.at >= KNOWN_SECONDS:
        with reading() as session:
            row = session.execute(sa.select(_seen).where(_seen.c.boot == _boot())).first()
            newest = session.scalar(sa.select(sa.func.max(_seen.c.seen_at)))
        kept.known, kept.newest = None if row is None else Seen(*row[1:]), newest
        kept.at = time.monotonic()
    return kept.known, kept.newest


def _is_news(known: Seen | None, found: Seen) -> bool:
    if known is None or found.is_doubted:
        return found != known
    moved = found.ahead != known.ahead and abs(found.ahead - known.ahead) > SECOND
    return known.is_doubted or moved or abs(found.seen_at - known.seen_at) > NOTED_EVERY


def _note(moment: int, since_boot: int) -> Seen:
    """Judge by what the database has at this moment, write that, and tell who runs the portal."""
    with writing() as session:
        newest = session.scalar(sa.select(sa.func.max(_seen.c.seen_at)))
        # Of several processes that are the first on this machine, one tells of it.
        first = judge(None, newest, moment, since_boot)
        made = session.execute(
            insert_into(session, _seen)
            .values(boot=_boot(), **vars(first))
            .on_conflict_do_nothing()
            .returning(_seen.c.boot)
        ).first()
        row = session.execute(
            sa.select(_seen).where(_seen.c.boot == _boot()).with_for_update()
        ).one()
        before = None if made else Seen(*row[1:])
        found = first if before is None else judge(before, newest, moment, since_boot)
        if found != before:
            session.execute(sa.update(_seen).where(_seen.c.boot == _boot()).values(**vars(found)))
        told = _news(before, found, moment, since_boot)
        if told is not None:
            session.add(OperationsEntry(kind=KIND, message=told))
    if told is not None:
        _log.warning("%s", told)
    runtime.part(KnownClock).forget()
    return found


def _news(before: Seen | None, found: Seen, moment: int, since_boot: int) -> str | None:
    was = None if before is None else before.doubted_from
    if found.doubted_from is not None and found.doubted_from != was:
        return _doubt(found, moment, since_boot).sentence
    if was is not None and not found.is_doubted:
        return "The clock is in doubt no more: what waited for it goes on."
    return None


def _in_words(span: int) -> str:
    """µs as days and hours."""
    days, hours = divmod(round(span / HOUR), 24)
    named = [(days, "day"), (hours, "hour")]
    return " and ".join(f"{n:,} {one}{'' if n == 1 else 's'}" for n, one in named if n)
