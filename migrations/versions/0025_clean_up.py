"""The clean-up in slices, and the payloads of one merchant in order"""

import sqlalchemy as sa
from alembic import op

revision = '0025'
down_revision = '0024'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'clean_up',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('token', sa.Integer(), nullable=False),
        sa.Column('moment', sa.BigInteger(), nullable=True),
        sa.Column('place', sa.JSON(), nullable=True),
        sa.Column('removed', sa.JSON(), nullable=False),
        sa.Column('work_us', sa.BigInteger(), nullable=False),
        sa.Column('began_at', sa.BigInteger(), nullable=False),
        sa.Column('worked_at', sa.BigInteger(), nullable=False),
        sa.Column('finished_at', sa.BigInteger(), nullable=True),
        sa.Column('warned_at', sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_clean_up')),
    )
    op.create_index(
        'ix_event_payload_merchant', 'event_payload', ['merchant_id', 'received_at']
    )
    op.create_index(
        'ix_attempt_payload_merchant', 'attempt_payload', ['merchant_id', 'attempt_id']
    )
    op.create_index(op.f('ix_password_reset_expires_at'), 'password_reset', ['expires_at'])


def downgrade():
    op.drop_index(op.f('ix_password_reset_expires_at'), 'password_reset')
    op.drop_index('ix_attempt_payload_merchant', 'attempt_payload')
    op.drop_index('ix_event_payload_merchant', 'event_payload')
    op.drop_table('clean_up')
