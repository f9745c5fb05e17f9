"""Strangers, who have shown nothing that is anybody's, and may come from any number of addresses
(portal.front.strangers)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from requests.adapters import HTTPAdapter

from portal import create_app
from portal.config import load_config
from portal.fairness import courtesy
from portal.fairness.company import STRANGERS, Company
from portal.front import accounts
from portal.front.accounts import BATCHES, EVENTS, HEALTH, Accounts
from portal.front.credentials import Credentials, session_given, session_of
from portal.front.strangers import GOOD_SECONDS, Strangers
from tests.factories import make_user
from tests.front.test_front import Server, running

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("front")]

MOMENT = 0.2
"""So long is waited for what must not happen."""
PEOPLE = "people"
MANY = [f"127.0.0.{number}" for number in range(2, 14)]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """Of a process in which nothing is ever paid off."""
    rates = dict.fromkeys((EVENTS, BATCHES, PEOPLE, HEALTH), 1e-9)
    monkeypatch.setattr(accounts, "RATES", rates)
    found = Accounts(Company(tmp_path))
    for one in (found._strangers, *found._strangers_apart.values()):
        one.account.rate = 1e-9
    return found


async def uses(own: Accounts, owner: str, seconds: float, part: str = PEOPLE) -> None:
    work = await own.enter((owner, part), is_stranger=owner in MANY)
    work.needed = seconds
    own.leave(work)


async def begins(own: Accounts, owner: str, part: str = PEOPLE) -> bool:
    entering = own.enter((owner, part), is_stranger=owner in MANY)
    try:
        own.leave(await asyncio.wait_for(entering, MOMENT))
    except TimeoutError:
        return False
    return True


def test_beside_others_all_of_them_together_have_no_more_than_one(own: Accounts):
    async def play() -> None:
        for address in MANY:
            await uses(own, address, 0.1)
        # None of them has used much.
        assert await begins(own, MANY[0])
        await uses(own, "merchant 1", 0.001)
        assert not await begins(own, MANY[0])
        assert await begins(own, "merchant 1")
        assert await begins(own, "merchant 2")

    asyncio.run(play())


def test_beside_others_all_of_them_have_no_more_threads_than_one(own: Accounts):
    async def play() -> None:
        await uses(own, "merchant 1", 0.001)
        works = [await own.enter((address, PEOPLE), is_stranger=True) for address in MANY[:3]]
        assert not await begins(own, MANY[3])
        assert await begins(own, "merchant 1")
        own.leave(works.pop())
        assert await begins(own, MANY[3])

    asyncio.run(play())


def test_one_that_rests_keeps_no_other_stranger_waiting(own: Accounts):
    async def play() -> None:
        await uses(own, "merchant 1", 0.001)
        works = [await own.enter((address, PEOPLE), is_stranger=True) for address in MANY[:3]]
        works[0].begin()
        # As the inspector does that answers late.
        resting = asyncio.create_task(asyncio.to_thread(works[0].breathe, 4 * MOMENT))
        await asyncio.sleep(MOMENT)
        assert await begins(own, MANY[3])
        await resting
        for work in works:
            own.leave(work)
        assert not own._strangers.account.placed
        assert not own._strangers.account.under_way

    asyncio.run(play())


def test_what_one_did_who_was_found_to_be_somebody_is_no_strangers(own: Accounts):
    async def play() -> None:
        await uses(own, "merchant 2", 0.001)
        works = [await own.enter((MANY[0], PEOPLE), is_stranger=True) for _ in range(2)]
        for work in works:
            work.begin()
            work.whose = "merchant 1"
        # A part of a download, and what another process did for a preview.
        works[0].since -= 1.0
        await asyncio.to_thread(works[0].breathe)
        works[1].count(1.0)
        for work in works:
            own.leave(work)
        assert await begins(own, MANY[0])
        assert await begins(own, MANY[1])
        assert not await begins(own, "merchant 1")
        assert not own._strangers.account.under_way
        assert not any(account.under_way for account in own._accounts.values())

    asyncio.run(play())


def test_who_is_heavy_gains_nothing_by_coming_as_a_stranger(own: Accounts):
    async def play() -> None:
        await uses(own, "merchant 2", 0.001)
        await uses(own, "merchant 1", 1.0)
        work = await own.enter((MANY[0], PEOPLE), is_stranger=True)
        work.begin()
        work.whose = "merchant 1"
        work.count(1.0)
        own.leave(work)
        assert not await begins(own, MANY[0])
        assert not await begins(own, MANY[1])
        assert not own._strangers.account.under_way
        assert not any(account.under_way for account in own._accounts.values())

    asyncio.run(play())


def test_a_stranger_who_is_alone_has_everything(own: Accounts):
    async def play() -> None:
        for _ in range(20):
            await uses(own, MANY[0], 1.0)
        works = [await own.enter((MANY[0], PEOPLE), is_stranger=True) for _ in range(8)]
        assert len(works) == 8

    asyncio.run(play())


def test_what_they_ask_for_keeps_nobody_from_asking_for_health(own: Accounts):
    async def play() -> None:
        for address in MANY:
            await uses(own, address, 0.1)
        await uses(own, "merchant 1", 0.001)
        assert not await begins(own, MANY[0])
        assert await begins(own, MANY[0], HEALTH)

    asyncio.run(play())


def test_one_of_whom_it_is_known_and_who_is_heavy_does_not_wait_for_heavy_strangers(own: Accounts):
    async def play() -> None:
        for address in MANY:
            await uses(own, address, 0.1)
        merchant = await own.enter(("merchant 1", PEOPLE))
        waiting = asyncio.create_task(own.enter((MANY[0], PEOPLE), is_stranger=True))
        await asyncio.sleep(MOMENT)
        own.leave(merchant)
        assert not own.is_awaited("merchant 1", time.monotonic())
        waiting.cancel()

    asyncio.run(play())


def test_of_those_who_wait_the_next_is_who_has_had_the_least(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []

    async def play() -> None:
        strangers = Strangers()

        async def ask(name: str) -> None:
            async with strangers.turn(strangers.had_by(name)):
                order.append(name)
                strangers.had_by(name).charge(0.02)

        for _ in range(20):
            await ask("crowd")
        order.clear()
        async with strangers.turn(strangers.had_by("crowd")):
            asking = [asyncio.create_task(ask(name)) for name in (*["crowd"] * 3, *["one"] * 3)]
            await asyncio.sleep(0)
        await asyncio.gather(*asking)

    asyncio.run(play())
    assert order == ["one", "one", "one", "crowd", "crowd", "crowd"]


def test_who_rested_is_no_further_ahead_than_for_a_sign_in():
    async def play() -> None:
        strangers = Strangers()
        resting, busy = strangers.had_by("resting"), strangers.had_by("busy")
        for had in (resting, *[busy] * 500):
            async with strangers.turn(had):
                had.charge(0.02)
        async with strangers.turn(resting):
            assert busy.seconds - 0.02 - resting.seconds == pytest.approx(GOOD_SECONDS)

    asyncio.run(play())


def test_who_goes_away_while_waiting_keeps_nobody_waiting():
    async def play() -> None:
        strangers = Strangers()

        async def ask(name: str) -> str:
            async with strangers.turn(strangers.had_by(name)):
                return name

        async with strangers.turn(strangers.had_by("first")):
            gone, other = (asyncio.create_task(ask(name)) for name in ("gone", "other"))
            await asyncio.sleep(0)
            gone.cancel()
        assert await asyncio.wait_for(other, 5) == "other"
        # In the very moment in which it was its turn, too.
        async with strangers.turn(strangers.had_by("first")):
            gone, other = (asyncio.create_task(ask(name)) for name in ("gone", "other"))
            await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.wait_for(other, 5) == "other"
        assert await asyncio.wait_for(ask("third"), 5) == "third"

    asyncio.run(play())


def test_their_pieces_of_bodies_wait_while_others_ask(own: Accounts):
    async def play() -> None:
        await uses(own, "merchant 1", 0.001)
        own._strangers_apart["bodies"].account.owed = 1.0
        own._strangers_apart["bodies"].account.counted_at = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(own.take_piece(MANY[0], is_stranger=True), MOMENT)
        await asyncio.wait_for(own.take_piece("merchant 1", is_stranger=False), MOMENT)

    asyncio.run(play())


def test_only_those_of_whom_it_is_known_are_others_to_all_strangers(tmp_path: Path):
    here, there = Company(tmp_path), Company(tmp_path)
    here.asked("192.0.2.1", 100.0, is_stranger=True)
    here.begins("192.0.2.1", 100.0, is_stranger=True)
    assert there.has_others("192.0.2.2", 100.1)
    assert not there.has_others("strangers", 100.1)
    assert not there.is_awaited("strangers", 100.001)
    here.asked("merchant 1", 100.2)
    here.begins("merchant 1", 100.2)
    here.asked("192.0.2.1", 100.3, is_stranger=True)
    assert there.has_others("strangers", 100.3)
    assert there.is_awaited("strangers", 100.201)
    assert not there.has_others("strangers", 102.0)


def test_the_session_that_an_answer_gives_is_known_from_then_on():
    known = Credentials()
    given = session_given(
        [
            ("Content-Type", "text/html"),
            ("Set-Cookie", "portal_session=abc.def.ghi; HttpOnly; Path=/; SameSite=Lax"),
        ]
    )
    assert given is not None
    known.learn(given, "user 1")
    page = {"cookie": "theme=dark; portal_session=abc.def.ghi"}
    assert known.owner(page, session_of(page), "192.0.2.1", is_page=True)[0] == "user 1"
    for headers in (
        [],
        [("Set-Cookie", "portal_device=abc.d")],
        [("Set-Cookie", "portal_session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT")],
    ):
        assert session_given(headers) is None


def test_who_signs_in_is_no_stranger_from_then_on(client: FlaskClient):
    email = make_user().email

    class Work:
        whose: str | None = None

        def breathe(self, at_least: float = 0.0) -> float:
            return at_least

        def count(self, seconds: float) -> None:
            pass

    work = Work()
    courtesy.do(work)
    try:
        client.post("/sign-in", data={"email": email, "password": "a wrong password"})
        assert not work.whose
        client.post("/sign-in", data={"email": email, "password": "correct horse battery"})
    finally:
        courtesy.do(None)
    assert (work.whose or "").startswith("user ")


# ── Over real sockets ─────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def flooded(server: Server, path: str) -> Iterator[Callable[[], int]]:
    """A server of which each of MANY addresses asks without pause; how many were answered."""
    done, ends = itertools.count(), threading.Event()

    def flood(address: str) -> None:
        while not ends.is_set():
            with contextlib.suppress(OSError):
                server.get(path, address)
                next(done)

    threads = [
        threading.Thread(target=flood, args=(address,), daemon=True)
        for address in MANY
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        yield lambda: int(repr(done)[6:-1])
    finally:
        ends.set()
        for thread in threads:
            thread.join(30)


def test_from_many_addresses_they_have_a_share_together(tmp_path: Path):
    with running(tmp_path, "tests.front_server:front") as bare:
        bare.get("/calm", key="calm")
        with flooded(bare, "/work") as so_far:
            began, before = time.monotonic(), so_far()
            for _ in range(60):
                assert bare.get("/calm", key="calm", address="127.0.0.20")[0] == 200
                time.sleep(0.05)
            # As one (tests.front.test_accounts): a twentieth of a second each.
            assert so_far() - before <= 6 + 4 + 3 * (time.monotonic() - began) + 3


def test_while_they_ask_without_pause_somebody_signs_in(tmp_path: Path):
    with running(tmp_path, "wsgi:front", WEB_THREADS="8") as portal:
        url = f"http://127.0.0.1:{portal.port}"
        with create_app(load_config(portal.environment)).app_context():
            email = make_user().email
        somebody, another = Browser("127.0.0.20"), Browser("127.0.0.21")
        somebody.sign_in(url, email)
        ends = threading.Event()

        def goes_on() -> None:
            while not ends.wait(0.1):
                somebody.get(f"{url}/account", timeout=60)

        going = threading.Thread(target=goes_on, daemon=True)
        going.start()
        with flooded(portal, "/sign-in"):
            time.sleep(2)
            began = time.monotonic()
            another.sign_in(url, email)
            assert another.get(f"{url}/account", timeout=60).status_code == 200
            assert time.monotonic() - began < 15
        ends.set()
        going.join()


def test_who_keeps_to_the_session_of_the_sign_in_is_known_in_every_process(tmp_path: Path):
    browser = Browser("127.0.0.20")
    with running(tmp_path, "wsgi:front", WEB_THREADS="8") as one:
        with create_app(load_config(one.environment)).app_context():
            email = make_user().email
        browser.sign_in(f"http://127.0.0.1:{one.port}", email)
    headers = {"Cookie": f"portal_session={browser.cookies['portal_session']}"}
    with running(tmp_path, "wsgi:front", WEB_THREADS="8") as another:

        def is_known() -> bool:
            began = time.monotonic()
            answer = requests.get(
                f"http://127.0.0.1:{another.port}/account", headers=headers, timeout=60
            )
            assert answer.status_code == 200
            assert "portal_session" in answer.cookies, "it gives another one, for its forms"
            now = time.monotonic()
            return Company(tmp_path).quiet_seconds(STRANGERS, now) <= now - began

        assert is_known(), "from its first page on"
        # Whose it is was learned a moment after the first answer.
        time.sleep(MOMENT)
        assert is_known()


class Browser(requests.Session):
    """One at an address of loopback."""

    def __init__(self, address: str):
        super().__init__()
        adapter = HTTPAdapter()
        adapter.init_poolmanager(1, 1, source_address=(address, 0))
        self.mount("http://", adapter)

    def sign_in(self, url: str, email: str) -> None:
        (token,) = set(
            re.findall(
                r'name="csrf_token" value="([^"]+)"', self.get(f"{url}/sign-in", timeout=60).text
            )
        )
        answer = self.post(
            f"{url}/sign-in",
            timeout=60,
            allow_redirects=False,
            data={"csrf_token": token, "email": email, "password": "correct horse battery"},
        )
        assert answer.status_code == 303
