"""How much is stored of each merchant, and what it may store"""

import sqlalchemy as sa
from alembic import op

revision = '0031'
down_revision = '0030'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'stored_bytes',
        sa.Column('merchant_id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('starts_at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('logs', sa.BigInteger(), nullable=False),
        sa.Column('payloads', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('merchant_id', 'starts_at', name=op.f('pk_stored_bytes')),
        sqlite_with_rowid=False,
    )
    op.create_index('ix_stored_bytes_starts_at', 'stored_bytes', ['starts_at'])
    op.create_table(
        'measured_until',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('moment', sa.BigInteger(), nullable=False),
        sa.Column('token', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_measured_until')),
    )
    with op.batch_alter_table('merchant') as batch:
        batch.add_column(sa.Column('storage_mb', sa.Integer(), nullable=True))


def downgrade():
    with op.batch_alter_table('merchant') as batch:
        batch.drop_column('storage_mb')
    op.drop_table('measured_until')
    op.drop_index('ix_stored_bytes_starts_at', 'stored_bytes')
    op.drop_table('stored_bytes')
