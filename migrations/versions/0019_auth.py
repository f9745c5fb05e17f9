"""What a webhook authenticates to its target with"""

import sqlalchemy as sa
from alembic import op

revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('webhook', sa.Column('auth', sa.JSON(none_as_null=True), nullable=True))


def downgrade():
    with op.batch_alter_table('webhook') as batch:
        batch.drop_column('auth')
