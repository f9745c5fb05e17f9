"""The parts of a request's time, from what libcurl has measured."""

from __future__ import annotations

import pycurl

Times = tuple[int, int | None, int | None, int | None, int | None, int | None, int | None]


def of(easy: pycurl.Curl, before_us: int, names_us: int, was_sent: bool) -> Times:
    """The times of an answer in µs: of all, of looking its name up, connecting, TLS, sending,
    waiting, and of taking it. `before_us` are those that had gone by when the handle was last
    added, and `names_us` those of them in which names were looked up. libcurl has times of sending
    and waiting for what never left, too: they count only where the request `was_sent`."""
    dns = easy.getinfo(pycurl.NAMELOOKUP_TIME_T)
    connect = easy.getinfo(pycurl.CONNECT_TIME_T)
    tls = easy.getinfo(pycurl.APPCONNECT_TIME_T)
    ready = easy.getinfo(pycurl.PRETRANSFER_TIME_T)
    # An answer may come before all of the request has gone.
    sent = easy.getinfo(pycurl.POSTTRANSFER_TIME_T)
    first = easy.getinfo(pycurl.STARTTRANSFER_TIME_T)
    total = easy.getinfo(pycurl.TOTAL_TIME_T)
    # libcurl counts each from the start of the transfer; 0 means it did not happen.
    return (
        before_us + total,
        names_us + dns or None,
        max(0, connect - dns) if connect else None,
        max(0, tls - connect) if tls else None,
        max(0, sent - ready) if was_sent and sent else None,
        max(0, first - max(sent, ready)) if was_sent and first else None,
        max(0, total - first) if was_sent and first else None,
    )
