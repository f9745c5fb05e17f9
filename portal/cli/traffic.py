"""Commands for events, webhooks, the clean-up and the settings."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
from flask import current_app

from portal.cli.common import json_option, merchant_option, print_rows, with_new_portal, with_portal
from portal.config import SETTINGS, SettingError, load_config
from portal.events import catalogue, ingest
from portal.people import accounts
from portal.run import first_start
from portal.settings import secret_key
from portal.strict_json import parse_record
from portal.upkeep import resealing
from portal.upkeep import retention as retention_stage
from portal.webhooks import setup as webhook_stage

_MASK = "********"

# ── Events and webhooks ───────────────────────────────────────────────────────────────────


@click.group()
def event() -> None:
    """Events: send one, list the types."""


@event.command("send")
@merchant_option
@click.option("--type", "event_type", required=True, help="Such as order.created.")
@click.option("--object-type", help="Default: the part of the type before the dot.")
@click.option("--object-id", help="The record's ID.")
@click.option("--source-user-type", help="The application that made the change.")
@click.option("--source-user-id", help="The user in it.")
@click.option("--correlation-id", help="What ties the events of one action together.")
@click.option("--id", "event_id", help="The event's own ID, for sending it only once.")
@click.option("--data", help="The record: JSON, @FILE, or - for standard input.")
@click.option("--previous", help="What changed, as it was: JSON, @FILE, or -.")
@click.option("--example", is_flag=True, help="Fill in what is not given from the type's example.")
@json_option
@with_portal
def event_send(
    slug: str,
    event_type: str,
    event_id: str | None,
    data: str | None,
    previous: str | None,
    example: bool,
    as_json: bool,
    **fields: str | None,
) -> None:
    """Store an event and send it to every webhook that wants it; prints its ID."""
    if example and data is not None:
        raise click.UsageError("Give --data or --example, not both.")
    merchant = accounts.get_merchant(slug)
    known = catalogue.find(merchant.id, event_type) if example else None
    sent = catalogue.example_event(known, fields["object_id"]) if known else {}
    # What the examples of one moment and one action have; this event happens now.
    for name in ("occurred_at", "correlation_id"):
        sent.pop(name, None)
    given = {"type": event_type, "id": event_id, **fields}
    sent |= {name: value for name, value in given.items() if value is not None}
    for name, text in (("data", data), ("previous", previous)):
        if text is not None:
            sent[name] = parse_record(_content(text, f"--{name}"))
    accepted = ingest.ingest_events(merchant.id, [sent], batch=False)[0]
    if as_json:
        click.echo(json.dumps({"id": accepted.id, "deliveries": accepted.deliveries}))
    else:
        click.echo(accepted.id)


@event.command("types")
@click.option("--merchant", "slug", help="With the merchant's own types.")
@json_option
@with_portal
def event_types(slug: str | None, as_json: bool) -> None:
    """The types of events that can be sent."""
    merchant_id = accounts.get_merchant(slug).id if slug else 0
    print_rows(
        [
            {"name": kind.name, "description": kind.description}
            for kind in catalogue.known_types(merchant_id).values()
        ],
        as_json,
    )


@click.group()
def webhook() -> None:
    """Webhooks of a merchant."""


@webhook.command("list")
@merchant_option
@json_option
@with_portal
def webhook_list(slug: str, as_json: bool) -> None:
    """A merchant's webhooks with their state."""
    print_rows(
        [
            {
                "id": row.id,
                "state": row.state,
                "method": row.method,
                "url": row.url,
                "events": row.events,
                "description": row.description,
            }
            for row in webhook_stage.list_webhooks(accounts.get_merchant(slug).id)
        ],
        as_json,
    )


# ── The portal itself ─────────────────────────────────────────────────────────────────────


@click.command()
@click.option("--no-copy", is_flag=True, help="Do not copy an SQLite database before.")
@with_new_portal
def migrate(no_copy: bool) -> None:
    """Bring the database to this version's schema; a start does so by itself.

    For a new portal it makes the data directory, the secret key and the database.
    """
    first_start.prepare(click.echo, with_copy=not no_copy)


@click.group()
def retention() -> None:
    """Deleting what is past its days."""


@retention.command("run")
@click.option("--dry-run", is_flag=True, help="Only count.")
@json_option
@with_portal
def retention_run(dry_run: bool, as_json: bool) -> None:
    """Run the clean-up now, beside a running portal; prints the rows per table."""
    removed = retention_stage.purge_expired(dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(removed))
        return
    for name, count in removed.items():
        click.echo(f"{name}: {count:,} {'would be removed' if dry_run else 'removed'}")


@click.group()
def secrets() -> None:
    """What is stored encrypted."""


@secrets.command("new-key")
def new_key() -> None:
    """Print a fresh key for PORTAL_SECRET_KEY, or for secret_key in the data directory."""
    click.echo(secret_key.new())


@secrets.command("rotate-key")
@json_option
@with_portal
def rotate_key(as_json: bool) -> None:
    """Encrypt everything anew under the first of PORTAL_SECRET_KEY.

    Put the new key first in that list and restart every process before; when this is done, the
    others can be taken out. Runs beside a running portal, and may be repeated.
    """
    result = resealing.reseal()
    if as_json:
        click.echo(json.dumps({"renewed": result.renewed, "unreadable": result.unreadable}))
    else:
        for name, count in result.renewed.items():
            click.echo(f"{name}: {count:,} encrypted anew")
        if len(current_app.config["PORTAL"].secret_keys) > 1 and not result.unreadable:
            click.echo("Nothing stored needs the older keys now; take them out and restart.")
    if result.unreadable:
        raise click.ClickException(
            f"No key opens {len(result.unreadable)} values; the first is "
            f"{result.unreadable[0]}. Give the key that it was stored under too, or set it anew."
        )


@click.command()
@json_option
def settings(as_json: bool) -> None:
    """The settings in force, with secrets masked."""
    try:
        # One asks for them also where there is no database yet.
        config = load_config(first_start=True, makes_directory=False)
    except SettingError as error:
        raise click.ClickException(str(error)) from None
    values = {
        f"PORTAL_{setting.name}": _shown(getattr(config, setting.name.lower(), _MASK))
        for setting in SETTINGS
    }
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        click.echo(f"{name}={value}")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, frozenset):
        return " ".join(sorted(value))
    if isinstance(value, bool):
        return str(int(value))
    # A password in an address of a database or of Redis, in either of its places.
    text = re.sub(r"(//[^/@:]*:)[^/]*@", rf"\1{_MASK}@", str(value))
    return re.sub(r"([?&]password=)[^&]*", rf"\1{_MASK}", text)


def _content(text: str, option: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{text[1:]}: {error.strerror}", param_hint=option) from None
