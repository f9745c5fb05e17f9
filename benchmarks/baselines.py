"""What the product is measured against: the least that could do the same job."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pycurl
import requests
import sqlalchemy as sa
from flask import Flask, Response, request

from portal.composing.compose import Composer, Outgoing, Payload, Target
from portal.db.session import db
from portal.models import EventPayload, Webhook


def composed() -> list[Outgoing]:
    """The signed requests of everything that is owed, ready to be sent."""
    moment = time.time_ns() // 1_000
    payloads = [
        (row.event_id, Payload(row.head, row.data, row.previous))
        for row in db.session.scalars(sa.select(EventPayload))
    ]
    return [
        composer.compose(event_id, payload, moment)
        for composer in [
            Composer(Target.of(webhook, webhook.signing_secrets(moment)))
            for webhook in db.session.scalars(sa.select(Webhook))
        ]
        for event_id, payload in payloads
    ]


def bare_libcurl(requests_to_send: Sequence[Outgoing], in_flight: int) -> float:
    """Seconds that a bare libcurl multi loop takes for signed requests; nothing is logged."""
    multi = pycurl.CurlMulti()
    ready = [(one.url, [b"Expect:", *one.lines()], one.body) for one in requests_to_send]
    free = []
    for _ in range(in_flight):
        easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.WRITEFUNCTION, lambda _: None)
        free.append(easy)
    started = time.perf_counter()
    sent = done = 0
    while done < len(ready):
        while free and sent < len(ready):
            easy = free.pop()
            url, headers, body = ready[sent]
            easy.setopt(pycurl.URL, url)
            easy.setopt(pycurl.HTTPHEADER, headers)
            easy.setopt(pycurl.POSTFIELDS, body)
            multi.add_handle(easy)
            sent += 1
        multi.perform()
        queued = 1
        while queued:
            queued, succeeded, failed = multi.info_read()
            if failed:
                raise RuntimeError(failed[0][2])
            for easy in succeeded:
                multi.remove_handle(easy)
                free.append(easy)
                done += 1
        if done < len(ready):
            multi.select(0.05)
    return time.perf_counter() - started


def deliver_one(database_url: str, url: str, headers: dict[str, str], body: str) -> None:
    """The usual way: one RQ job a delivery, sent with requests, logged with one insert."""
    engine = _engine(database_url)
    answer = requests.post(url, data=body.encode(), headers=headers, timeout=15)
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO bench_log (event_id, status, body) VALUES (:id, :status, :body)"),
            {"id": headers["webhook-id"], "status": answer.status_code, "body": body},
        )


_engines: dict[str, sa.Engine] = {}


def _engine(url: str) -> sa.Engine:
    if url not in _engines:
        if url.startswith("postgresql://"):
            url = "postgresql+psycopg" + url.removeprefix("postgresql")
        _engines[url] = sa.create_engine(url)
        if url.startswith("sqlite"):
            with _engines[url].connect() as connection:
                connection.exec_driver_sql("PRAGMA busy_timeout=5000")
    return _engines[url]


bare = Flask("bare")
"""A JSON POST that stores nothing, for the same server."""


@bare.post("/api/v1/events")
def take() -> Any:
    """Read the body, answer 202."""
    event = request.get_json()
    return Response(
        json.dumps({"id": event.get("id", "evt_1"), "deliveries": 0}),
        202,
        content_type="application/json",
    )
