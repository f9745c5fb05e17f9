"""Sends the mail that waits in the database, from the maintenance worker: only by SMTP, at least
once, with retries. Nothing else ever waits for a mail server."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import smtplib
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from email.header import Header
from email.headerregistry import HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session

from portal import vault
from portal.characters import printable
from portal.clock import HOUR, MINUTE, now, to_datetime
from portal.config import Config
from portal.db.session import writing
from portal.models import Mail, Membership, Merchant, OperationsEntry, User
from portal.notices import gathering
from portal.notices.mail_servers import Server, TlsServer, Watchdog

RETRIES = (MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR)
"""Pauses between tries, in µs; if the try after the last one fails, the mail is given up."""
BATCH = 200
MOST_CLAIMED = 500
"""The most messages, and rows of them, that a run claims under the lock."""
CLAIM = 5 * MINUTE
"""How long a run has for what it claimed; then another run sends it, as after a crash."""
TIMEOUT_SECONDS = 10
RUN_SECONDS = 5
"""After this a run begins no other message, since sweeps wait behind it. TIMEOUT_SECONDS later the
connection is cut, whatever it is doing: a server that answers byte by byte is never silent for
long."""

_GROUP = (
    Mail.to_email,
    sa.func.coalesce(Mail.merchant_id, 0),
    sa.case((Mail.merchant_id.is_(None), Mail.subject), else_=""),
    sa.case((Mail.merchant_id.is_(None), Mail.next_attempt_at), else_=0),
)
"""The columns that are the same for all mails of one message."""

_log = logging.getLogger(__name__)


class _Text(UnstructuredHeader):
    """A header with text of others, letter for letter. The library's own class decodes what looks
    like an encoded word (RFC 2047), and line breaks in that would begin new headers."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        kwds["parse_tree"], kwds["decoded"] = None, value

    def fold(self, *, policy: EmailPolicy) -> str:
        name = str(self.name)  # type: ignore[attr-defined]
        words = str(self).encode(errors="replace").decode()
        charset = "us-ascii" if words.isascii() and "=?" not in words else "utf-8"
        text = Header(words, charset, policy.max_line_length, name)
        return f"{name}: {text.encode(linesep=policy.linesep)}{policy.linesep}"


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("subject", _Text)  # type: ignore[arg-type]
_POLICY = SMTP.clone(header_factory=_HEADERS)


@dataclass(frozen=True)
class _Message:
    """A message to one address: one mail, several notices about one merchant, or several mails
    about no merchant that have waited for the same moment."""

    mails: Sequence[Mail]
    merchant: Merchant | None

    @property
    def numbers(self) -> list[int]:
        return [mail.id for mail in self.mails]


class Refused(Exception):
    """The server will never accept this message."""


def send_due() -> int:
    """Send the mail whose time has come. Returns how many messages the server accepted.

    Without PORTAL_SMTP_URL there is nothing to do. A server that is down, or refuses, is tried
    again after each of RETRIES; mail that is given up is noted in the operations log.
    """
    config: Config = current_app.config["PORTAL"]
    if config.smtp_url:
        gathering.hand_out()
    messages = _claim() if config.smtp_url else []
    if not messages:
        return 0
    end = time.monotonic() + RUN_SECONDS
    watchdog = Watchdog(RUN_SECONDS + TIMEOUT_SECONDS)
    try:
        try:
            server = _connect(config, watchdog)
        except Exception as error:  # noqa: BLE001 - smtplib raises much of what a server says
            for message in messages:
                put_off(message, error)
            return 0
        with contextlib.closing(server):
            return _send_all(server, messages, config, end)
    finally:
        watchdog.end()


def _send_all(
    server: smtplib.SMTP, messages: Sequence[_Message], config: Config, end: float
) -> int:
    """Send until everything is sent or the time is over, but at least one message: else a server
    that is slow to greet would never get any."""
    sent = 0
    for index, whole in enumerate(messages):
        if index and time.monotonic() > end:
            _put_back(messages[index:])
            break
        message = _sendable(whole, config)
        if message is None:
            continue
        try:
            _send(server, message, config)
        except Exception as error:  # noqa: BLE001 - likewise
            put_off(message, error)
            # smtplib closes where a server says 421: the next would only fail for that.
            if _is_gone(error) or server.sock is None:
                _put_back(messages[index + 1 :])
                break
        else:
            sent += 1
            with writing() as session:
                session.execute(sa.delete(Mail).where(Mail.id.in_(message.numbers)))
    return sent


def _sendable(message: _Message, config: Config) -> _Message | None:
    """The message without the mails that cannot be read or written, which are given up; None if
    none is left. Each notice fails alone."""
    good = []
    for mail in message.mails:
        alone = _Message([mail], message.merchant)
        try:
            _compose(alone, config).as_bytes()
            good.append(mail)
        except vault.Unreadable:
            put_off(alone, Refused("no secret key of the portal can read it any more"))
        except Exception as error:  # noqa: BLE001 - whatever a text raises is its mail's failure
            _log.warning("mail %d cannot be composed", mail.id, exc_info=True)
            put_off(alone, Refused(f"it cannot be composed ({type(error).__name__})"))
    return _Message(good, message.merchant) if good else None


def _claim() -> list[_Message]:
    moment = now()
    # First mail about accounts, one of each address in turn, then a notice of each merchant in
    # turn, so that many of one delay nobody else's. The mails of one message are claimed together.
    whose = sa.case((Mail.merchant_id.is_(None), Mail.to_email))
    turn = sa.func.row_number().over(partition_by=[Mail.merchant_id, whose], order_by=Mail.id)
    due = sa.and_(Mail.kind.is_(None), Mail.next_attempt_at <= moment)
    # Addresses that failed before come last, since a server may hang at one of them.
    first = (Mail.attempts > 0, Mail.merchant_id.is_not(None))
    next_ones = sa.select(*_GROUP).where(due).order_by(*first, turn, Mail.id).limit(BATCH)
    rows = (
        sa.select(Mail)
        .where(due, sa.tuple_(*_GROUP).in_(next_ones))
        .order_by(*first, Mail.id)
        .limit(MOST_CLAIMED)
        .with_for_update(skip_locked=True)
    )
    with writing() as session:
        mails = session.scalars(rows).all()
        left = _of_who_left(session, [mail.id for mail in mails])
        mails = [mail for mail in mails if mail.id not in left]
        groups: dict[tuple[Any, ...], list[Mail]] = defaultdict(list)
        for mail in mails:
            alone = () if mail.merchant_id else (mail.subject, mail.next_attempt_at)
            groups[mail.to_email, mail.merchant_id, *alone].append(mail)
        session.execute(
            sa.update(Mail)
            .where(Mail.id.in_([mail.id for mail in mails]))
            .values(next_attempt_at=moment + CLAIM)
            .execution_options(synchronize_session=False)
        )
        merchants = {
            merchant.id: merchant
            for merchant in session.scalars(
                sa.select(Merchant).where(
                    Merchant.id.in_({mail.merchant_id for mail in mails if mail.merchant_id})
                )
            )
        }
        for row in (*mails, *merchants.values()):
            session.expunge(row)
    return [_Message(group, merchants.get(group[0].merchant_id or 0)) for group in groups.values()]


def _of_who_left(session: scoped_session[Any], numbers: Sequence[int]) -> set[int]:
    """Which of these mails are notices to somebody who is no member any more, or whose account is
    disabled: they are deleted. One may have waited for hours, while the server was away."""
    hears = (
        sa.exists()
        .where(
            User.email == Mail.to_email,
            User.disabled_at.is_(None),
            Membership.user_id == User.id,
            Membership.merchant_id == Mail.merchant_id,
        )
        .correlate(Mail)
    )
    left = set(
        session.scalars(
            sa.select(Mail.id).where(
                Mail.id.in_(numbers), Mail.merchant_id.is_not(None), sa.not_(hears)
            )
        )
    )
    if left:
        session.execute(
            sa.delete(Mail).where(Mail.id.in_(left)).execution_options(synchronize_session=False)
        )
    return left


def _connect(config: Config, watchdog: Watchdog) -> smtplib.SMTP:
    address = urlsplit(config.smtp_url)
    host, user = address.hostname or "", unquote(address.username or "")
    context = ssl.create_default_context()
    name = socket.gethostname()
    server: Server
    if address.scheme == "smtps":
        server = TlsServer(
            watchdog, host, address.port or 465, name, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        server = Server(
            watchdog, host, address.port or (587 if user else 25), name, timeout=TIMEOUT_SECONDS
        )
    try:
        server.greet()
        if address.scheme == "smtp" and not _is_this_machine(host):
            if server.has_extn("starttls"):
                server.starttls(context=context)
                server.greet()
            elif user:
                raise smtplib.SMTPNotSupportedError(
                    "The server offers no TLS, and a password is not sent without it."
                )
        if user:
            server.login(user, unquote(address.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _send(server: smtplib.SMTP, message: _Message, config: Config) -> None:
    try:
        server.send_message(_compose(message, config))
    except smtplib.SMTPRecipientsRefused as error:
        code, _text = next(iter(error.recipients.values()))
        if code >= 500:
            raise Refused(_in_words(error)) from error
        raise


def _compose(message: _Message, config: Config) -> EmailMessage:
    mails, first = message.mails, message.mails[0]
    texts = [vault.decrypt(mail.body_token) for mail in mails[: gathering.SHOWN]]
    subject = first.subject
    if message.merchant is not None and len(mails) > 1:
        name = printable(message.merchant.name)
        subject = f"[{name}] {len(mails)} notices about webhooks"
    if len(mails) > gathering.SHOWN:
        path = f"/m/{message.merchant.slug}/" if message.merchant else "/account"
        texts.append(f"And {len(mails) - gathering.SHOWN} more: {config.public_url}{path}")
    if message.merchant is not None:
        texts.append(
            f"-- \nYou get this as a member of {message.merchant.name}. Choose what you are told: "
            f"{config.public_url}/account"
        )
    composed = EmailMessage(_POLICY)
    composed["From"] = config.mail_from
    composed["To"] = first.to_email
    composed["Subject"] = subject
    composed["Date"] = format_datetime(to_datetime(now()))
    # The same for each try, so that a mailbox can recognize a repeated message.
    composed["Message-ID"] = (
        f"<{first.created_at}.{first.id}@{urlsplit(config.public_url).hostname}>"
    )
    composed["Auto-Submitted"] = "auto-generated"
    composed.set_content("\n\n".join(texts) + "\n")
    return composed


def _is_gone(error: Exception) -> bool:
    return not isinstance(
        error, Refused | smtplib.SMTPResponseException | smtplib.SMTPRecipientsRefused
    )


def _put_back(messages: Sequence[_Message]) -> None:
    """Leave the messages that this run did not get to for the next one."""
    numbers = [number for message in messages for number in message.numbers]
    with writing() as session:
        session.execute(sa.update(Mail).where(Mail.id.in_(numbers)).values(next_attempt_at=now()))


def put_off(message: _Message, error: Exception) -> None:
    """Try again later, or give up and note that in the operations log, by each mail's own tries."""
    address, words = message.mails[0].to_email, _in_words(error)
    _log.warning("mail to %s failed: %s", address, words)
    given_up: list[Mail] = []
    with writing() as session:
        for mail in message.mails:
            if mail.attempts >= len(RETRIES) or isinstance(error, Refused):
                given_up.append(mail)
                continue
            session.execute(
                sa.update(Mail)
                .where(Mail.id == mail.id)
                .values(
                    attempts=mail.attempts + 1,
                    last_error=words,
                    next_attempt_at=now() + RETRIES[mail.attempts],
                )
            )
        if not given_up:
            return
        session.execute(sa.delete(Mail).where(Mail.id.in_([mail.id for mail in given_up])))
        tries = given_up[0].attempts + 1
        session.add(
            OperationsEntry(
                kind="mail",
                message=f"Gave up telling {address} “{given_up[0].subject}” "
                f"after {tries} {'try' if tries == 1 else 'tries'}: {words}",
            )
        )


def _in_words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(error.recipients.values()))
        return f"{code} {_readable(text)}"[:300]
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_readable(error.smtp_error)}"[:300]
    return (str(error) or type(error).__name__)[:300]


def _readable(text: bytes | str) -> str:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return printable(text, instead=" ")
