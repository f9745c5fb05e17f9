"""Indexes of the logs end in the order of pages, so that a planner without statistics takes them"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

_CORRELATED = sa.text('correlation_id IS NOT NULL')


def _replace(table, name, columns, **options):
    op.drop_index(name, table_name=table)
    op.create_index(name, table, columns, unique=False, **options)


def upgrade():
    _replace('event', 'ix_event_object',
             ['merchant_id', 'object_id', 'received_at', 'id', 'object_type'])
    _replace('event', 'ix_event_type', ['merchant_id', 'type', 'received_at', 'id'])
    _replace('event', 'ix_event_correlation', ['merchant_id', 'correlation_id', 'received_at', 'id'],
             sqlite_where=_CORRELATED, postgresql_where=_CORRELATED)
    _replace('attempt', 'ix_attempt_failed', ['merchant_id', 'ok', 'id'],
             sqlite_where=sa.text('ok = 0'), postgresql_where=sa.text('NOT ok'))


def downgrade():
    _replace('event', 'ix_event_object',
             ['merchant_id', 'object_id', 'object_type', 'received_at'])
    _replace('event', 'ix_event_type', ['merchant_id', 'type', 'received_at'])
    _replace('event', 'ix_event_correlation', ['merchant_id', 'correlation_id', 'received_at'],
             sqlite_where=_CORRELATED, postgresql_where=_CORRELATED)
    _replace('attempt', 'ix_attempt_failed', ['merchant_id', 'id'],
             sqlite_where=sa.text('ok = 0'), postgresql_where=sa.text('NOT ok'))
