"""Recoveries"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'recovery',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=True),
        sa.Column('action', sa.String(length=10), nullable=False),
        sa.Column('states', sa.JSON(), nullable=False),
        sa.Column('filters', sa.JSON(), nullable=False),
        sa.Column('since', sa.BigInteger(), nullable=True),
        sa.Column('before', sa.BigInteger(), nullable=False),
        sa.Column('state', sa.String(length=10), nullable=False),
        sa.Column('total', sa.Integer(), nullable=True),
        sa.Column('done', sa.Integer(), nullable=False),
        sa.Column('place', sa.JSON(), nullable=True),
        sa.Column('token', sa.Integer(), nullable=False),
        sa.Column('created_by', sa.String(length=300), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('worked_at', sa.BigInteger(), nullable=False),
        sa.Column('finished_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_recovery_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_recovery')),
    )
    op.create_index('ix_recovery_merchant', 'recovery', ['merchant_id', 'id'])
    op.create_index(
        'ix_recovery_running', 'recovery', ['worked_at'],
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        'ix_delivery_failed', 'delivery', ['webhook_id', 'finished_at', 'id'],
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )


def downgrade():
    op.drop_index('ix_delivery_failed', 'delivery')
    op.drop_table('recovery')
