"""Signatures that a public key verifies"""

import sqlalchemy as sa
from alembic import op

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column(
        'webhook',
        sa.Column('sign_ed25519', sa.Boolean(), server_default=sa.false(), nullable=False),
    )


def downgrade():
    with op.batch_alter_table('webhook') as batch:
        batch.drop_column('sign_ed25519')
