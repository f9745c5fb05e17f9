"""The one table of settings: docs/settings.md is checked against it, portal.config reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portal.settings.setting_values import (
    cron_line,
    database_url,
    flag_or_none,
    host,
    integer,
    level,
    mail_from,
    names,
    nat64_prefixes,
    networks,
    plain,
    program,
    public_url,
    redis_url,
    schedule,
    smtp_url,
)


@dataclass(frozen=True)
class Setting:
    """One PORTAL_ variable: its name without the prefix, default text, reader and meaning."""

    name: str
    default: str
    read: Callable[[str], Any]
    help: str


SETTINGS: tuple[Setting, ...] = (
    Setting("HOST", "127.0.0.1", host, "Address the web server listens on."),
    Setting("PORT", "8000", integer(1, 65_535), "Port the web server listens on."),
    Setting(
        "PUBLIC_URL",
        "",
        public_url,
        "Address people use, such as https://hooks.example.com; "
        "needed behind a proxy. Default: http://HOST:PORT.",
    ),
    Setting(
        "PROXIES",
        "0",
        integer(0, 5),
        "Proxies in front of the portal whose X-Forwarded-For "
        "and X-Forwarded-Proto are believed; 1 behind one nginx or Caddy.",
    ),
    Setting(
        "HOSTS",
        "",
        names,
        "Further names under which the portal is reached, such as "
        "portal.internal, separated by commas; * for any. Those of PORTAL_PUBLIC_URL and of this "
        "machine, localhost and IP addresses are known.",
    ),
    Setting(
        "ENV_FILE",
        "",
        plain,
        "File with further settings, such as "
        "/etc/webhook-portal.env; what the environment sets goes before it.",
    ),
    Setting(
        "DATA_DIR",
        "",
        plain,
        "Directory for the database, the queue and the secret key. "
        "Default: var beside the portal's code, wherever it is started.",
    ),
    Setting(
        "DATABASE_URL",
        "",
        database_url,
        "sqlite:///… or postgresql://…; default: portal.db in the data directory.",
    ),
    Setting(
        "REDIS_URL",
        "",
        redis_url,
        "redis://, rediss:// or unix://; default: a server that "
        "bin/run starts, on a socket in the data directory.",
    ),
    Setting(
        "REDIS_SERVER",
        "",
        program,
        "Server that bin/run starts where PORTAL_REDIS_URL is "
        "empty, such as /usr/bin/valkey-server. Default: the portal's own Valkey.",
    ),
    Setting(
        "SECRET_KEY",
        "",
        plain,
        "Signs sessions and encrypts secrets; 32 or more characters, "
        "several separated by commas while rotating, the newest first. "
        "Default: made once and kept in the data directory.",
    ),
    Setting(
        "EGRESS_ALLOW",
        "",
        networks,
        "Private networks that webhooks may reach, such as "
        "10.1.0.0/16, separated by commas; none by default.",
    ),
    Setting(
        "NAT64_PREFIXES",
        "",
        nat64_prefixes,
        "Prefixes by which this network reaches IPv4 "
        "(NAT64), such as 64:ff9b::/96, separated by commas; an address with one is judged by "
        "the IPv4 address in it.",
    ),
    Setting("WEB_PROCESSES", "2", integer(1, 64), "Processes that answer HTTP."),
    Setting("WEB_THREADS", "8", integer(1, 256), "Threads in each web process."),
    Setting("WORKERS", "2", integer(1, 64), "Processes that deliver."),
    Setting(
        "LANES",
        "4",
        integer(1, 256),
        "Parts into which webhooks are divided; at least as many "
        "as delivering processes on all machines together. The same on every machine.",
    ),
    Setting("SWEEP_SECONDS", "5", integer(1, 300), "How often cron looks for forgotten work."),
    Setting(
        "RETRY_SCHEDULE",
        "0 5 300 1800 7200 18000 36000 50400 72000 86400",
        schedule,
        "Delay before each attempt in seconds, each after the one before.",
    ),
    Setting("TIMEOUT_SECONDS", "15", integer(1, 120), "Deadline of one attempt, first to last."),
    Setting("MAX_IN_FLIGHT", "20", integer(1, 1_000), "Requests at once to one webhook."),
    Setting(
        "HOLD_AFTER_FAILURES",
        "20",
        integer(2, 10_000),
        "Attempts in a row without an answer, "
        "or with 408, 429 or 5xx, after which a webhook's deliveries are held and only probes are "
        "sent.",
    ),
    Setting(
        "DISABLE_AFTER_DAYS",
        "5",
        integer(1, 60),
        "Days of nothing but failures after which a webhook is disabled.",
    ),
    Setting("EVENT_DAYS", "60", integer(1, 3_650), "Days to keep events and header logs."),
    Setting("PAYLOAD_DAYS", "15", integer(1, 3_650), "Days to keep payload logs and record data."),
    Setting(
        "RETENTION_CRON",
        "17 3 * * *",
        cron_line,
        "When the nightly clean-up runs, as a cron line in the server's local time.",
    ),
    Setting(
        "CONTACT",
        "",
        plain,
        "Whom merchants ask to have the feature activated: a name, an "
        "address or a link, shown in the portal.",
    ),
    Setting(
        "SMTP_URL",
        "",
        smtp_url,
        "Server that sends notices by mail: "
        "smtp://user:password@host:587 (TLS by STARTTLS) or smtps://…:465. Empty: no mail.",
    ),
    Setting(
        "MAIL_FROM",
        "",
        mail_from,
        "Sender of mail: an address, or Name <address>; needed with PORTAL_SMTP_URL.",
    ),
    Setting(
        "API_REQUESTS",
        "1000",
        integer(0, 1_000_000),
        "Requests a second that each web process takes with one API key; 0: any number.",
    ),
    Setting(
        "API_WRONG_KEYS",
        "30",
        integer(0, 1_000_000),
        "Wrong API keys a minute that each web process looks up for one address; 0: any number.",
    ),
    Setting(
        "API_EVENTS",
        "10000",
        integer(0, 1_000_000),
        "Events a second that each web process takes "
        "for one merchant, where each 4 KiB of a body count as one; 0: any number.",
    ),
    Setting(
        "API_DELIVERIES",
        "5000",
        integer(0, 10_000_000),
        "Deliveries a second that the events of "
        "one merchant may owe in each web process; 0: any number.",
    ),
    Setting(
        "DISK_FREE_MB",
        "100",
        integer(0, 1_000_000_000),
        "Events are refused while less than so "
        "many MB are free on the disk of the SQLite database; 0: never.",
    ),
    Setting(
        "MERCHANT_MB",
        "10000",
        integer(0, 2_000_000_000),
        "MB that the logs of one merchant may "
        "hold; then its events are refused until there is room again; 0: any number.",
    ),
    Setting(
        "PAGE_REQUESTS",
        "30",
        integer(0, 1_000_000),
        "Pages a second that each web process makes "
        "for the members of one merchant, and for one user; staff are not counted. 0: any number.",
    ),
    Setting("SESSION_HOURS", "12", integer(1, 720), "Hours after which a sign-in ends."),
    Setting("LOG_LEVEL", "INFO", level, "DEBUG, INFO, WARNING or ERROR."),
    Setting(
        "SECURE_COOKIES",
        "",
        flag_or_none,
        "1 behind TLS: cookies are sent over HTTPS only. Default: 1 where PORTAL_PUBLIC_URL begins "
        "with https://.",
    ),
)
