"""A notice is owed to all members as one row"""

import sqlalchemy as sa
from alembic import op

revision = '0033'
down_revision = '0032'
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table('mail') as batch:
        batch.add_column(sa.Column('kind', sa.String(length=40), nullable=True))
    op.create_index('ix_mail_merchant', 'mail', ['merchant_id', 'kind'])


def downgrade():
    op.drop_index('ix_mail_merchant', 'mail')
    # Nobody's address: the code of before would try to send it.
    op.execute("DELETE FROM mail WHERE kind IS NOT NULL")
    with op.batch_alter_table('mail') as batch:
        batch.drop_column('kind')
