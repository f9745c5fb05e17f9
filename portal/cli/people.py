"""Commands for merchants, users, members and API keys."""

from __future__ import annotations

import sys

import click

from portal.audit import chain
from portal.cli.common import (
    ACTOR,
    all_rows,
    json_option,
    merchant_option,
    moment_of,
    print_rows,
    role_option,
    with_portal,
)
from portal.models import ApiKey
from portal.models.user import MEMBER_ROLES, STAFF_ROLES
from portal.people import accounts, invitations, members, resets, second_factor, storage_bounds
from portal.storage import allowance

# ── Merchants ─────────────────────────────────────────────────────────────────────────────


@click.group()
def merchant() -> None:
    """Merchants: create, activate, deactivate, storage, list."""


@merchant.command("create")
@click.argument("slug")
@click.option("--name", default="", help="What people read; default: the slug.")
@click.option("--active", is_flag=True, help="Activate its feature at once.")
@with_portal
def merchant_create(slug: str, name: str, active: bool) -> None:
    """Add the merchant SLUG (a–z, 0–9 and hyphens); prints the slug."""
    click.echo(accounts.create_merchant(slug, name, ACTOR, active=active).slug)


@merchant.command("activate")
@click.argument("slug")
@with_portal
def merchant_activate(slug: str) -> None:
    """Turn a merchant's feature on: from its next event on, webhooks are sent."""
    accounts.activate(accounts.get_merchant(slug), ACTOR)


@merchant.command("deactivate")
@click.argument("slug")
@with_portal
def merchant_deactivate(slug: str) -> None:
    """Turn a merchant's feature off: events are logged, nothing new is sent."""
    accounts.deactivate(accounts.get_merchant(slug), ACTOR)


@merchant.command("storage")
@click.argument("slug")
@click.argument("mb", required=False)
@with_portal
def merchant_storage(slug: str, mb: str | None) -> None:
    """Print how much a merchant has stored. With MB let it store so many: 0 for any amount,
    "default" for as many as PORTAL_MERCHANT_MB says."""
    found = accounts.get_merchant(slug)
    if mb is not None:
        storage_bounds.change(found, "" if mb == "default" else mb or "-", ACTOR)
    click.echo(allowance.in_words(allowance.of([found.id])[found.id]))


@merchant.command("list")
@json_option
@with_portal
def merchant_list(as_json: bool) -> None:
    """All merchants, newest first."""
    print_rows(
        [
            {
                "slug": row.slug,
                "name": row.name,
                "active": row.active,
                "created_at": moment_of(row.created_at, as_json),
            }
            for row in all_rows(accounts.merchants)
        ],
        as_json,
    )


# ── Users and members ─────────────────────────────────────────────────────────────────────


@click.group()
def user() -> None:
    """People who sign in: create, list, password, reset-link,
    remove-second-factor, disable, enable."""


@user.command("create")
@click.option("--email", required=True, help="The address to sign in with.")
@click.option("--name", default="", help="What people read.")
@click.option(
    "--password",
    help="The password, or - for a line of standard input; other users "
    "of this machine may see a command's options. Default: one is made and printed once.",
)
@click.option("--prompt", is_flag=True, help="Ask for the password, twice.")
@click.option("--staff", type=click.Choice(STAFF_ROLES), help="Make the user staff.")
@click.option("--merchant", "slug", help="Make the user a member of this merchant.")
@role_option
@with_portal
def user_create(
    email: str,
    name: str,
    password: str | None,
    prompt: bool,
    staff: str | None,
    slug: str | None,
    role: str | None,
) -> None:
    """Add a user: staff, or a member of a merchant; prints the address."""
    if bool(slug) != bool(role):
        raise click.UsageError("Give --merchant and --role together.")
    merchant = accounts.get_merchant(slug) if slug else None
    chosen, is_new = _password(password, prompt)
    created = accounts.create_user(email, chosen, ACTOR, staff, name, merchant=merchant, role=role)
    click.echo(created.email)
    _print_once(chosen, is_new)


@user.command("list")
@json_option
@with_portal
def user_list(as_json: bool) -> None:
    """All users, newest first."""
    print_rows(
        [
            {
                "email": row.email,
                "name": row.name,
                "staff": row.staff_role,
                "merchants": {entry.merchant.slug: entry.role for entry in row.memberships},
                "disabled": not row.is_active,
            }
            for row in all_rows(accounts.users)
        ],
        as_json,
    )


@user.command("password")
@click.option("--email", required=True, help="Whose password.")
@click.option(
    "--password",
    help="The new one, or - for a line of standard input. Default: one is made and printed once.",
)
@click.option("--prompt", is_flag=True, help="Ask for the password, twice.")
@with_portal
def user_password(email: str, password: str | None, prompt: bool) -> None:
    """Give a user another password; all their sign-ins end."""
    found = accounts.get_user(email)
    chosen, is_new = _password(password, prompt)
    accounts.change_password(found, chosen, ACTOR)
    _print_once(chosen, is_new)


@user.command("reset-link")
@click.option("--email", required=True, help="Whose password.")
@with_portal
def user_reset_link(email: str) -> None:
    """Print a link with which a user chooses another password, once within an hour."""
    click.echo(resets.make_link(accounts.get_user(email), ACTOR))


@user.command("remove-second-factor")
@click.option("--email", required=True, help="Whose.")
@with_portal
def user_remove_second_factor(email: str) -> None:
    """Let a user who lost app, passkeys and recovery codes in with the password alone. Make sure
    first that it is them."""
    second_factor.remove(accounts.get_user(email), ACTOR)


@user.command("disable")
@click.option("--email", required=True, help="Whose account.")
@with_portal
def user_disable(email: str) -> None:
    """End an account; all its sign-ins end."""
    accounts.disable_user(accounts.get_user(email), ACTOR)


@user.command("enable")
@click.option("--email", required=True, help="Whose account.")
@with_portal
def user_enable(email: str) -> None:
    """Open a disabled account again."""
    accounts.enable_user(accounts.get_user(email), ACTOR)


@click.group()
def member() -> None:
    """Members of a merchant: add, invite, remove, list."""


@member.command("add")
@merchant_option
@click.option("--email", required=True, help="Whom: an address that has no account yet.")
@click.option("--role", type=click.Choice(MEMBER_ROLES), required=True, help="Role there.")
@with_portal
def member_add(slug: str, email: str, role: str) -> None:
    """Give an address an account as a member; prints its password once. An address that has an
    account is invited instead."""
    password = members.add_member(accounts.get_merchant(slug), email, role, ACTOR)
    click.echo(accounts.get_user(email).email)
    _print_once(password, is_new=True)


@member.command("invite")
@merchant_option
@click.option("--email", required=True, help="Whom.")
@click.option("--role", type=click.Choice(MEMBER_ROLES), required=True, help="Role there.")
@with_portal
def member_invite(slug: str, email: str, role: str) -> None:
    """Invite someone; prints the link, which works once within 7 days. Where mail is set up they
    get it by mail too."""
    click.echo(invitations.invite(accounts.get_merchant(slug), email, role, ACTOR))


@member.command("remove")
@merchant_option
@click.option("--email", required=True, help="Whom.")
@with_portal
def member_remove(slug: str, email: str) -> None:
    """End a membership; the last owner stays."""
    members.remove_member(accounts.get_merchant(slug), accounts.get_user(email).id, ACTOR)


@member.command("list")
@merchant_option
@json_option
@with_portal
def member_list(slug: str, as_json: bool) -> None:
    """A merchant's members."""
    print_rows(
        [
            {"email": user.email, "name": user.name, "role": role}
            for user, role in members.members(accounts.get_merchant(slug))
        ],
        as_json,
    )


# ── API keys ──────────────────────────────────────────────────────────────────────────────


@click.group("api-key")
def api_key() -> None:
    """API keys of a merchant: create, list, revoke."""


@api_key.command("create")
@merchant_option
@click.option(
    "--scope",
    type=click.Choice(ApiKey.SCOPES),
    required=True,
    help="What it may do; write includes read.",
)
@click.option("--name", default="", help="What will use it.")
@with_portal
def api_key_create(slug: str, scope: str, name: str) -> None:
    """Make a key; prints its text and nothing else. It is not shown again."""
    click.echo(accounts.create_key(accounts.get_merchant(slug), scope, name, ACTOR))


@api_key.command("list")
@merchant_option
@json_option
@with_portal
def api_key_list(slug: str, as_json: bool) -> None:
    """The keys in use, newest first."""
    print_rows(
        [
            {
                "id": key.id,
                "name": key.name,
                "begins_with": key.prefix,
                "scope": key.scope,
                "created_at": moment_of(key.created_at, as_json),
            }
            for key in accounts.keys(accounts.get_merchant(slug))
        ],
        as_json,
    )


@api_key.command("revoke")
@merchant_option
@click.argument("key_id")
@with_portal
def api_key_revoke(slug: str, key_id: str) -> None:
    """End the key KEY_ID, as `api-key list` shows it, at once."""
    accounts.revoke_key(accounts.get_merchant(slug), key_id, ACTOR)


# ── The audit log ─────────────────────────────────────────────────────────────────────────


@click.group()
def audit() -> None:
    """The audit log: who changed or revealed what."""


@audit.command("verify")
@click.option("--end", help="The end that was kept from an earlier run; it must still be there.")
@with_portal
def audit_verify(end: str | None) -> None:
    """Follow the log's chain of hashes; exit code 1 where an entry was changed, taken out or put
    in between. Prints the end, to be kept outside of the database."""
    found = chain.verify(end)
    if found.broken:
        raise click.ClickException(f"{found.broken} Up to entry {found.entries:,} it is whole.")
    click.echo(f"{found.entries:,} entries, whole; end: {found.end}")


# ── Passwords ──────────────────────────────────────────────────────────────────────────────


def _password(given: str | None, prompt: bool) -> tuple[str, bool]:
    if given is not None and prompt:
        raise click.UsageError("Give --password or --prompt, not both.")
    if prompt:
        return click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True), False
    if given == "-":
        return sys.stdin.readline().rstrip("\r\n"), False
    return (accounts.new_password(), True) if given is None else (given, False)


def _print_once(password: str, is_new: bool) -> None:
    if is_new:
        click.echo(f"password (not shown again): {password}")
