"""Counts by the hour"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'event_count',
        sa.Column('merchant_id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('starts_at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('events', sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint('merchant_id', 'starts_at', name=op.f('pk_event_count')),
        sqlite_with_rowid=False,
    )
    op.create_table(
        'attempt_count',
        sa.Column('merchant_id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('starts_at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=False),
        sa.Column('took', sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('successes', sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            'merchant_id', 'starts_at', 'webhook_id', 'took', name=op.f('pk_attempt_count')
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        'ix_attempt_count_webhook', 'attempt_count', ['webhook_id', 'starts_at'], unique=False
    )
    op.create_table(
        'counted_until',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('moment', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_counted_until')),
    )


def downgrade():
    op.drop_table('counted_until')
    op.drop_table('attempt_count')
    op.drop_table('event_count')
