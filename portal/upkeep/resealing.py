"""Everything that is stored encrypted, under the newest of the portal's secret keys.

Afterwards the older keys open nothing that is stored any more, and can be taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal import vault
from portal.db.session import Base, db, table, writing
from portal.models import SealedWord, Webhook
from portal.models.webhook import AUTH_SECRETS, Auth, OldSecret, Pair

Stored = str | Auth | list[Pair] | list[OldSecret]
BATCH = 200


@dataclass
class Resealed:
    """What came of it: how many values were encrypted anew, by `table.column`, and the rows that
    hold one which no key opens."""

    renewed: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def reseal() -> Resealed:
    """Encrypt every stored secret under the newest key, in batches, beside a running portal whose
    processes all know that key. Safe to repeat, and to stop in between."""
    result = Resealed()
    for column in _columns():
        name = f"{column.table.name}.{column.name}"
        result.renewed[name] = 0
        for position in _batches(column.table):
            with writing() as session:
                _reseal_batch(session, column, position, name, result)
    return result


def _columns() -> Iterator[sa.Column[Any]]:
    last = table(SealedWord)
    for one in Base.metadata.sorted_tables:
        if one is not last:
            yield from (column for column in one.columns if isinstance(column.type, vault.Token))
    # Their secret values are tokens inside a list or an object.
    of = table(Webhook).c
    yield from (of.query_params, of.headers, of.auth, of.old_secrets)
    # Under the new key alone the portal starts only when all the others are under it, too.
    yield last.c.word_token


def _batches(one: sa.Table) -> Iterator[list[tuple[Any, ...]]]:
    """The keys of a table's rows, BATCH at a time."""
    last = None
    while True:
        query = sa.select(*one.primary_key).order_by(*one.primary_key).limit(BATCH)
        if last is not None:
            query = query.where(_key(one) > last)
        keys = [tuple(row) for row in db.session.execute(query)]
        db.session.rollback()
        if not keys:
            return
        yield keys
        last = keys[-1]


def _reseal_batch(
    session: scoped_session[Any],
    column: sa.Column[Any],
    keys: list[tuple[Any, ...]],
    name: str,
    result: Resealed,
) -> None:
    rows = session.execute(
        sa.select(*column.table.primary_key, column)
        .where(_key(column.table).in_(keys), column.is_not(None))
        .with_for_update()
    ).all()
    for *parts, value in rows:
        try:
            renewed = _renewed(value)
        except vault.Unreadable:
            result.unreadable.append(f"{name} of {', '.join(map(str, parts))}")
            continue
        if renewed is not None:
            values: dict[str, Any] = {column.name: renewed}
            if "updated_at" in column.table.c:
                # What people see of the row does not change.
                values["updated_at"] = column.table.c.updated_at
            session.execute(
                sa.update(column.table).where(_key(column.table) == tuple(parts)).values(values)
            )
            result.renewed[name] += 1


def _key(one: sa.Table) -> sa.Tuple:
    return sa.tuple_(*one.primary_key)


def _renewed(value: Stored) -> Stored | None:
    if isinstance(value, str):
        return vault.renew(value)
    if isinstance(value, dict):
        secret = AUTH_SECRETS[value["type"]]
        token = vault.renew(value[secret])
        return None if token is None else value | {secret: token}
    if value and "until" in value[0]:
        return _renewed_old_secrets(cast(list[OldSecret], value))
    return _renewed_pairs(cast(list[Pair], value))


def _renewed_old_secrets(value: list[OldSecret]) -> list[OldSecret] | None:
    tokens = [vault.renew(old["token"]) for old in value]
    if not any(tokens):
        return None
    return [
        OldSecret(token=token or old["token"], until=old["until"])
        for old, token in zip(value, tokens, strict=True)
    ]


def _renewed_pairs(value: list[Pair]) -> list[Pair] | None:
    pairs: list[Pair] = []
    changed = False
    for pair in value:
        token = vault.renew(pair["value"]) if pair["secret"] else None
        changed = changed or token is not None
        pairs.append(
            pair if token is None else {"name": pair["name"], "value": token, "secret": True}
        )
    return pairs if changed else None
