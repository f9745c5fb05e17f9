"""A sealed word that tells whether the secret key is this database's"""

import sqlalchemy as sa
from alembic import op

revision = '0028'
down_revision = '0027'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'canary',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('word_token', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_canary')),
    )


def downgrade():
    op.drop_table('canary')
