"""Saved filters"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'saved_filter',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('log', sa.String(length=10), nullable=False),
        sa.Column('name', sa.String(length=60), nullable=False),
        sa.Column('filters', sa.JSON(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_saved_filter_merchant_id_merchant')
        ),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_saved_filter_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_saved_filter')),
    )
    op.create_index(
        'ix_saved_filter_name', 'saved_filter', ['user_id', 'merchant_id', 'log', 'name'],
        unique=True,
    )


def downgrade():
    op.drop_table('saved_filter')
