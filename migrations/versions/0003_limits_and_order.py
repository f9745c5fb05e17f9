"""Webhooks have limits of their own, and may want the events of a record in order"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

WAITING = sa.text("state = 'pending' AND object_key IS NOT NULL")


def upgrade():
    with op.batch_alter_table('webhook') as batch:
        batch.add_column(sa.Column('max_in_flight', sa.Integer(), nullable=True))
        batch.add_column(sa.Column('rate_per_second', sa.Integer(), nullable=True))
        batch.add_column(
            sa.Column('ordered', sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    op.add_column('delivery', sa.Column('object_key', sa.String(length=511), nullable=True))
    op.create_index(
        'ix_delivery_object', 'delivery', ['webhook_id', 'object_key', 'created_at'],
        sqlite_where=WAITING, postgresql_where=WAITING,
    )


def downgrade():
    op.drop_index('ix_delivery_object', 'delivery')
    with op.batch_alter_table('delivery') as batch:
        batch.drop_column('object_key')
    with op.batch_alter_table('webhook') as batch:
        batch.drop_column('ordered')
        batch.drop_column('rate_per_second')
        batch.drop_column('max_in_flight')
