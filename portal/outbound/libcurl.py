"""The only outbound HTTP: many requests at once in one thread, on libcurl's multi interface."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Generic

import pycurl

from portal.composing.compose import NONE, Frame, Outgoing
from portal.config import Config
from portal.outbound import defects, egress
from portal.outbound.connections import Address, Connections, Ends
from portal.outbound.effort import Efforts
from portal.outbound.response import Response
from portal.outbound.transfer import Transfer
from portal.outbound.transport import AT_ONCE_SECONDS, Look, Tag
from portal.outbound.waiting import Waiting

MAX_CONNECTIONS = 1_024
"""Connections kept, busy ones included. More requests at once than this would close one for each
that ends, and open one for each that starts."""

MAX_BESIDE = 1024 * 1024
MAX_FRAMES = 8
"""Bytes that may come over a connection beside its answers, and how many more for each byte of
those: what frames them. Each may be as much work as an answer; this ends what has no end."""
LOOKS_AT, LOOKS_AFTER_SECONDS = 16, 0.001
"""How many times a connection is read before it is looked at how much came, and how much time one
of them may take."""
MOST_READY = 4_096
"""Sockets of which it is asked at once whether something came."""
_RECEIVED, _INFO_BYTES = 128, 136
"""Where struct tcp_info (linux/tcp.h) has how many bytes came."""

_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN | select.EPOLLRDHUP,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP,
}
_CLOSED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class CurlTransport(Generic[Tag]):
    """The portal.outbound.transport.Transport of libcurl.

    `allow` are the private networks that may be reached; `inspect_url`
    is how the portal's own inspectors begin (egress.is_inspector), which may be reached too.
    Each request is a merchant's: who takes little of the loop's time goes first.
    """

    def __init__(self, allow: Sequence[egress.Admitted], inspect_url: str | None = None):
        self._allow = tuple(allow)
        self._inspect_url = inspect_url
        self._epoll = select.epoll()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self.woken = False
        """Whether a watched fd could be read in the last `run`."""
        self.waited_seconds = 0.0
        """How long `run` had nothing to do, over all calls."""
        self._connections = Connections(4 * MAX_CONNECTIONS)
        self._watched: set[int] = set()
        self._wanted: set[int] = set()
        """Sockets that libcurl waits for now. Between two requests a connection stays registered
        with epoll, which costs less than to leave and to come back."""
        self._reads: Counter[int] = Counter()
        """How often each socket was read since it was last looked at."""
        self._efforts = Efforts()
        self._is_cut = False
        """Whether there was no time for some sockets in the last `run`."""
        self._ends: dict[int, Ends] = {}
        """Those of the sockets that were connected when it was last asked for them."""
        self._openers: dict[int, int | None] = {}
        """For whom each socket was opened."""
        self._idle: dict[int, list[Transfer[Tag]]] = {}
        """By what they are prepared for, of which each keeps the only one with that id()."""
        self._busy: dict[Any, Transfer[Tag]] = {}
        self._waiting = Waiting()
        """Those that need addresses first; libcurl does not have them meanwhile."""
        self._epoll.register(self._waiting.bell, select.EPOLLIN)
        self._failed: list[tuple[Tag, Response]] = []
        """Requests that could not be started, until `run` tells."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return len(self._busy) + len(self._waiting) + len(self._failed)

    def submit(
        self, what: Outgoing | Look, timeout_seconds: float, tag: Tag, whose: int | None = None
    ) -> None:
        """As Transport has it."""
        if isinstance(what, Look):
            frame = Frame("GET", what.url, [], what.url, [], what.certificate)
            transfer, outgoing = self._transfer(looks_only=True), Outgoing(frame, [], None, NONE)
        else:
            transfer, outgoing = self._free_transfer(what.frame), what
        try:
            transfer.begin(outgoing, timeout_seconds, tag, whose)
            self._multi.add_handle(transfer.easy)
        except Exception as error:  # noqa: BLE001 - others' requests are under way
            # The handle is let go of, with whatever it was given of this request.
            self._failed.append((tag, defects.answer(error, "start the request")))
        else:
            self._busy[transfer.easy] = transfer

    def _transfer(self, *, looks_only: bool = False) -> Transfer[Tag]:
        return Transfer(
            self._allow, self._inspect_url, self._connections, self._efforts, looks_only=looks_only
        )

    def _free_transfer(self, frame: Frame) -> Transfer[Tag]:
        """One that is prepared for such requests where there is one, or any other."""
        if not self._idle:
            return self._transfer()
        key = id(frame)
        if key not in self._idle:
            key = next(iter(self._idle))
        transfers = self._idle[key]
        transfer = transfers.pop()
        if not transfers:
            del self._idle[key]
        return transfer

    def watch(self, fd: int) -> None:
        """As Transport has it."""
        self._watched.add(fd)
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """As Transport has it."""
        self._watched.discard(fd)
        # One that was closed epoll has forgotten by itself, and its number may be another's now.
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def run(
        self, seconds: float, at_once_seconds: float = AT_ONCE_SECONDS
    ) -> list[tuple[Tag, Response]]:
        """As Transport has it."""
        wait = 0.0 if self._failed else seconds
        self.woken = False
        started = time.monotonic()
        # Asked each time: to be told of each change is two calls a request.
        if (milliseconds := self._multi.timeout()) >= 0:
            wait = min(wait, milliseconds / 1_000)
        if self._waiting:
            wait = min(wait, self._waiting.seconds_left())
        # epoll rounds down to milliseconds and would spin through the last one.
        ready = self._epoll.poll(wait if wait == 0 else wait + 0.0005, MOST_READY)
        self.waited_seconds += time.monotonic() - started
        rings = self._look_after(ready, at_once_seconds)
        self._do_what_is_due()
        if rings or self._waiting:
            self._go_on()
        return self._finished()

    def _do_what_is_due(self) -> None:
        if self._multi.timeout() == 0:
            if self._efforts.counts:
                self._efforts.begin()
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            if self._efforts.counts:
                self._efforts.took(None)

    def _look_after(self, ready: list[tuple[int, int]], seconds: float) -> bool:
        """Look after sockets for so many seconds; epoll tells of the others again. Whether
        addresses have come."""
        clock = time.monotonic()
        if self._is_cut:
            self._efforts.sort(ready, clock, self._whose_socket)
        if self._efforts.ends(clock):
            self._tell_of_work()
        rings = self._is_cut = False
        end = clock + seconds
        for fd, events in ready:
            if fd in self._wanted:
                if clock < end:
                    clock = self._act(fd, events, clock)
                else:
                    self._efforts.waits(fd)
                    self._is_cut = True
            elif fd in self._watched:
                self.woken = True
            elif fd == self._waiting.bell:
                rings = True
            else:
                self._look_at_idle(fd, events)
        if self._is_cut:
            self._look_who_waits(clock)
        return rings

    def _look_who_waits(self, clock: float) -> None:
        """Where the requests under way are not all of one owner, count what is done for each."""
        if len({transfer.whose for transfer in self._busy.values()}) > 1:
            was_counted = self._efforts.counts
            self._efforts.crowded(clock)
            if not was_counted:
                self._tell_of_work()

    def _tell_of_work(self) -> None:
        for transfer in self._busy.values():
            transfer.tell_of_work()

    def _act(self, fd: int, events: int, clock: float) -> float:
        """Let libcurl read and write what a socket is ready for; when that has ended."""
        mask = 0
        if events & (select.EPOLLIN | select.EPOLLHUP):
            mask |= pycurl.CSELECT_IN
            self._reads[fd] += 1
        if events & select.EPOLLOUT:
            mask |= pycurl.CSELECT_OUT
        if events & select.EPOLLERR:
            mask |= pycurl.CSELECT_ERR
        if self._efforts.counts:
            whose = self._whose_socket(fd)
            self._efforts.begin()
            self._multi.socket_action(fd, mask)
            self._efforts.took(whose)
        else:
            self._multi.socket_action(fd, mask)
        self._efforts.done(fd)
        ended = time.monotonic()
        is_due = self._reads[fd] >= LOOKS_AT or ended - clock > LOOKS_AFTER_SECONDS
        if is_due and fd in self._wanted:
            self._reads[fd] = 0
            self._look_at_busy(fd)
        return ended

    def close(self) -> None:
        """As Transport has it."""
        for easy in list(self._busy):
            self._multi.remove_handle(easy)
        self._busy.clear()
        self._waiting.close()
        self._multi.close()
        self._epoll.close()

    def _finished(self) -> list[tuple[Tag, Response]]:
        answers, self._failed = self._failed, []
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            ended = [(easy, 0, "") for easy in succeeded] + list(failed)
            for easy, code, message in ended:
                transfer = self._busy[easy]
                self._multi.remove_handle(easy)
                if code and transfer.once_more(code):
                    self._multi.add_handle(easy)
                    continue
                del self._busy[easy]
                if code and transfer.needs_addresses:
                    self._waiting.add(transfer)
                    continue
                try:
                    answers.append((transfer.tag, transfer.answer(code, message)))
                except Exception as error:  # noqa: BLE001 - others' answers are waiting
                    answers.append((transfer.tag, defects.answer(error, "read the answer")))
                self._end(transfer)
        return answers

    def _go_on(self) -> None:
        """Take the requests up again whose addresses have come, or will not."""
        for waited in self._waiting.collect():
            transfer = waited.transfer
            try:
                if waited.addresses:
                    transfer.take_addresses(waited.addresses)
                    self._multi.add_handle(transfer.easy)
                    self._busy[transfer.easy] = transfer
                    continue
                answer = transfer.without_addresses(is_over=waited.is_over)
            except Exception as error:  # noqa: BLE001 - others' requests are under way
                answer = defects.answer(error, "go on with the request")
            self._failed.append((transfer.tag, answer))
            self._end(transfer)

    def _end(self, transfer: Transfer[Tag]) -> None:
        transfer.end()
        if transfer.looks_only:
            transfer.easy.close()
        else:
            self._idle.setdefault(id(transfer.frame), []).append(transfer)

    def _whose_socket(self, fd: int) -> int | None:
        if fd not in self._wanted:
            # One that is watched may be none of the internet's, as Redis's is.
            return None
        return self._connections.whose(self._ends_of(fd), self._openers.get(fd))

    def _ends_of(self, fd: int) -> Ends | None:
        ends = self._ends.get(fd)
        if ends is None:
            # It has no other end before it is connected.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as one:
                ends = self._ends[fd] = _address(one.getsockname()), _address(one.getpeername())
        return ends

    def _look_at_idle(self, fd: int, events: int) -> None:
        """Something came over a connection that carries no request."""
        with contextlib.suppress(OSError):
            if not events & _CLOSED:
                # HTTP/2 talks in between; libcurl reads it when it takes the connection.
                self._epoll.modify(fd, select.EPOLLRDHUP)
                return
            self._epoll.unregister(fd)
            if (ends := self._ends_of(fd)) is not None:
                self._connections.close(ends)

    def _look_at_busy(self, fd: int) -> None:
        """End a connection that brings more than answers can be."""
        if (ends := self._ends_of(fd)) is None:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as busy:
            info = busy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            received = struct.unpack_from("Q", info, _RECEIVED)[0]
            coming = sum(one.came for one in self._busy.values() if one.ends == ends)
            brought, answers = self._connections.brought(ends, received, coming)
            if brought > MAX_BESIDE + MAX_FRAMES * answers:
                self._connections.flood(ends)
                busy.shutdown(socket.SHUT_RDWR)

    def _watch_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self._wanted.discard(fd)
            return
        self._wanted.add(fd)
        try:
            self._epoll.modify(fd, _EVENTS[what])
        except FileNotFoundError:
            # New, or the number of one that was closed, which epoll forgot by itself.
            self._reads.pop(fd, None)
            self._efforts.forget(fd)
            if (before := self._ends.pop(fd, None)) is not None:
                self._connections.forget_owner(before)
            self._openers[fd] = self._connections.opener
            self._epoll.register(fd, _EVENTS[what])


def _address(name: tuple[Any, ...]) -> Address:
    return str(name[0]).partition("%")[0], int(name[1])


def admitted(config: Config) -> tuple[egress.Admitted, ...]:
    """What the settings admit beside public addresses, and on the way to them."""
    return egress.admitted(config.egress_allow, config.nat64_prefixes)


def send_now(
    outgoing: Outgoing,
    timeout_seconds: float,
    allow: Sequence[egress.Admitted],
    inspect_url: str | None = None,
    whose: int | None = None,
) -> Response:
    """Send one request of a merchant and wait for its answer, at most `timeout_seconds`."""
    transport: CurlTransport[None] = CurlTransport(allow, inspect_url)
    try:
        transport.submit(outgoing, timeout_seconds, None, whose)
        while True:
            for _, answer in transport.run(1.0):
                return answer
    finally:
        transport.close()
