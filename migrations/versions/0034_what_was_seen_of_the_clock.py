"""What was last seen of the clock of each machine"""

import sqlalchemy as sa
from alembic import op

revision = '0034'
down_revision = '0033'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'clock_seen',
        sa.Column('boot', sa.String(length=40), primary_key=True),
        sa.Column('ahead', sa.BigInteger(), nullable=False),
        sa.Column('seen_at', sa.BigInteger(), nullable=False),
        sa.Column('doubted_ahead', sa.BigInteger(), nullable=True),
        sa.Column('doubted_from', sa.BigInteger(), nullable=True),
    )


def downgrade():
    op.drop_table('clock_seen')
