"""Share links of attempts"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'attempt_share',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('attempt_id', sa.String(length=40), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('created_by', sa.String(length=300), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
        sa.Column('revoked_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_attempt_share_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_attempt_share')),
        sa.UniqueConstraint('digest', name=op.f('uq_attempt_share_digest')),
    )
    op.create_index(
        'ix_attempt_share_attempt', 'attempt_share', ['merchant_id', 'attempt_id'], unique=False
    )


def downgrade():
    op.drop_index('ix_attempt_share_attempt', table_name='attempt_share')
    op.drop_table('attempt_share')
