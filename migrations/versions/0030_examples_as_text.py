"""The example of a merchant's own event type as the text that it was written in"""

import sqlalchemy as sa
from alembic import op

revision = '0030'
down_revision = '0029'
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table('own_event_type') as batch:
        batch.alter_column(
            'example', existing_type=sa.JSON(), type_=sa.Text(), existing_nullable=True,
            postgresql_using='example::text',
        )
    # None is null in a column of JSON.
    op.execute("UPDATE own_event_type SET example = NULL WHERE example = 'null'")


def downgrade():
    with op.batch_alter_table('own_event_type') as batch:
        batch.alter_column(
            'example', existing_type=sa.Text(), type_=sa.JSON(), existing_nullable=True,
            postgresql_using='example::json',
        )
