"""A second factor for signing in"""

import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'recovery_code',
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_recovery_code_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('user_id', 'digest', name=op.f('pk_recovery_code')),
    )
    with op.batch_alter_table('user_account') as batch:
        batch.add_column(sa.Column('totp_token', sa.Text(), nullable=True))
        batch.add_column(sa.Column('totp_step', sa.BigInteger(), nullable=True))


def downgrade():
    with op.batch_alter_table('user_account') as batch:
        batch.drop_column('totp_step')
        batch.drop_column('totp_token')
    op.drop_table('recovery_code')
