"""When the certificates of targets, and those shown to them, end"""

import sqlalchemy as sa
from alembic import op

revision = '0022'
down_revision = '0021'
branch_labels = None
depends_on = None

COLUMNS = ('certificate_ends_at', 'certificate_checked_at', 'client_certificate_ends_at')


def upgrade():
    for name in COLUMNS:
        op.add_column('webhook', sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade():
    with op.batch_alter_table('webhook') as batch:
        for name in COLUMNS:
            batch.drop_column(name)
