"""What says that a receiver is away, and what goes out when it is back"""

import sqlalchemy as sa
from alembic import op

revision = '0026'
down_revision = '0025'
branch_labels = None
depends_on = None


def upgrade():
    for column in (
        sa.Column('away', sa.Integer(), nullable=False, server_default='0'),
        sa.Column('unreachable', sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column('catch_up_from', sa.BigInteger(), nullable=True),
    ):
        op.add_column('webhook', column)
    op.execute("UPDATE webhook SET away = failures WHERE held_at IS NOT NULL")
    op.add_column(
        'delivery', sa.Column('hurries', sa.Integer(), nullable=False, server_default='0')
    )


def downgrade():
    with op.batch_alter_table('delivery') as batch:
        batch.drop_column('hurries')
    with op.batch_alter_table('webhook') as batch:
        for name in ('catch_up_from', 'unreachable', 'away'):
            batch.drop_column(name)
