"""The sealed word has its table's name"""

import sqlalchemy as sa
from alembic import op

revision = '0029'
down_revision = '0028'
branch_labels = None
depends_on = None


def upgrade():
    _move('canary', 'sealed_word')


def downgrade():
    _move('sealed_word', 'canary')


def _move(old, new):
    # Made anew, so that its key has the name that it would have from the start, on SQLite too.
    op.create_table(
        new,
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('word_token', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f(f'pk_{new}')),
    )
    op.execute(f'INSERT INTO {new} (id, word_token) SELECT id, word_token FROM {old}')
    op.drop_table(old)
