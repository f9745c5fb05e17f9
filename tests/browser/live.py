"""The product as people start it, for a browser: supervisor, Valkey, web, workers and cron."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from playwright.sync_api import Browser, sync_playwright

from portal import create_app
from portal.clock import SECOND, now
from portal.config import load_config
from portal.db.session import db
from portal.diagnosis import inspector, shares
from portal.people import accounts, invitations, resets, second_factor
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 40.0
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Store:
    """A merchant of its own with an owner who may sign in, and a key that may write."""

    slug: str
    email: str
    key: str


class LivePortal:
    """A running portal on loopback, with a database of its own."""

    def __init__(self, url: str, app: Flask, directory: Path) -> None:
        self.url = url
        self.data = directory / "data"
        self.log = directory / "log"
        """What all its processes say."""
        self.app = app
        self._stores = 0
        found = dict(
            re.findall(r"^  (sign-in|password|API key) +(\S+)", self.log.read_text(), re.M)
        )
        self.operator = (found["sign-in"], found["password"])
        self.key = found["API key"]

    def store(self, name: str = "", slug: str = "", *, active: bool = True) -> Store:
        """A new merchant, its owner and its key."""
        self._stores += 1
        slug = slug or f"store-{self._stores}"
        email = f"owner@{slug}.example"
        with self.app.app_context():
            name = name or f"Store {self._stores}"
            merchant = accounts.create_merchant(slug, name, "test", active)
            accounts.create_user(
                email, PASSWORD, "test", None, "Robin Owner", merchant=merchant, role="owner"
            )
            key = accounts.create_key(merchant, "write", "Store platform", "test")
            db.session.remove()
        return Store(slug, email, key)

    def api(self, method: str, path: str, key: str, body: Any = None) -> Any:
        """Call the API; what it answers, which is no error."""
        answer = requests.request(
            method,
            f"{self.url}/api/v1/{path}",
            json=body,
            timeout=20,
            headers={"Authorization": f"Bearer {key}"},
        )
        assert answer.ok, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def member(self, store: Store, name: str, role: str, *, with_code: bool = False) -> str:
        """The address of one more member of the store, who is asked for a code too if wished."""
        email = f"{name.split()[0].lower()}@{store.slug}.example"
        with self.app.app_context():
            merchant = accounts.get_merchant(store.slug)
            accounts.create_user(email, PASSWORD, "test", None, name, merchant=merchant, role=role)
            if with_code:
                secret = second_factor.new_secret()
                step = now() // (second_factor.STEP_SECONDS * SECOND)
                code = second_factor.code_at(base64.b32decode(secret), step)
                second_factor.turn_on(accounts.get_user(email), secret, code, PASSWORD)
            db.session.remove()
        return email

    def share(self, store: Store, attempt_id: str) -> str:
        """The token of a link to an attempt for an hour."""
        with self.app.app_context():
            merchant_id = accounts.get_merchant(store.slug).id
            token = shares.create_share(merchant_id, attempt_id, "1", f"user:{store.email}")
            db.session.remove()
        return token

    def invitation(self, store: Store) -> str:
        """The token of an invitation to the store."""
        with self.app.app_context():
            merchant = accounts.get_merchant(store.slug)
            link = invitations.invite(
                merchant, f"new@{store.slug}.example", "editor", f"user:{store.email}"
            )
            db.session.remove()
        return link.rpartition("/")[2]

    def password_reset(self, store: Store) -> str:
        """The token of a link with which the store's owner chooses another password."""
        with self.app.app_context():
            user = accounts.find_user(store.email)
            assert user is not None
            link = resets.make_link(user, "test")
            db.session.remove()
        return link.rpartition("/")[2]

    def inspector(self, store: Store) -> str:
        """The URL of the store's inspector."""
        with self.app.app_context():
            merchant_id = accounts.get_merchant(store.slug).id
            url = inspector.url_of(inspector.prepare(merchant_id, "test"))
            db.session.remove()
        return url

    def send_order(self, store: Store, number: str = "1042") -> str:
        """Send an order.created of the store; its event ID."""
        sent = self.api(
            "POST",
            "events",
            store.key,
            {"type": "order.created", "object_id": number, "data": {"number": f"SO-{number}"}},
        )
        return str(sent["id"])

    def make_webhook(self, store: Store, url: str, **fields: Any) -> str:
        """Make a webhook for the store's orders; its ID."""
        made = self.api(
            "POST",
            "webhooks",
            store.key,
            {"description": "Orders to the ERP", "url": url, "events": ["order.*"], **fields},
        )
        return str(made["id"])


@contextlib.contextmanager
def running(port: int = 0, **settings: str) -> Iterator[LivePortal]:
    """Start everything that bin/run starts in a temporary directory; stopped and removed after.

    `settings` are PORTAL_ settings without the prefix. Raises RuntimeError with the portal's own
    lines when it does not come up.
    """
    directory = Path(tempfile.mkdtemp(prefix="portal-live-"))
    port = port or free_port()
    environment = {
        "PORTAL_DATA_DIR": str(directory / "data"),
        "PORTAL_PORT": str(port),
        "PORTAL_EGRESS_ALLOW": "127.0.0.1/32",
        "PORTAL_WEB_PROCESSES": "1",
        "PORTAL_WORKERS": "1",
    } | {f"PORTAL_{name}": value for name, value in settings.items()}
    log = directory / "log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "portal", "run"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            env=_clean_environment() | environment,
        )
    try:
        wait_for(
            lambda: "Ctrl-C stops" in log.read_text() or process.poll() is not None, START_SECONDS
        )
        if process.poll() is not None:
            raise RuntimeError(f"The portal did not start:\n{log.read_text()}")
        app = create_app(load_config(environment))
        yield LivePortal(f"http://127.0.0.1:{port}", app, directory)
        with app.app_context():
            db.engine.dispose()
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def chromium() -> str | None:
    """Where the browser is; None when the machine has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def a_browser() -> Iterator[Browser]:
    """The machine's chromium, without a window."""
    arguments = ["--disable-gpu"]
    if os.getuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Until it is true; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen in time")
        time.sleep(0.05)


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PORTAL_")}
