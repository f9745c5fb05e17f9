"""Sign-ins that are listed and ended one by one; links for another password"""

import sqlalchemy as sa
from alembic import op

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'user_session',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('used_at', sa.BigInteger(), nullable=False),
        sa.Column('address', sa.String(length=45), nullable=False),
        sa.Column('agent', sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_user_session_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_user_session')),
        sa.UniqueConstraint('digest', name=op.f('uq_user_session_digest')),
    )
    op.create_index(op.f('ix_user_session_user_id'), 'user_session', ['user_id'])
    op.create_index(op.f('ix_user_session_created_at'), 'user_session', ['created_at'])
    op.create_table(
        'password_reset',
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_password_reset_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('digest', name=op.f('pk_password_reset')),
    )
    op.create_index(op.f('ix_password_reset_user_id'), 'password_reset', ['user_id'])
    with op.batch_alter_table('user_account') as batch:
        batch.drop_column('session_number')


def downgrade():
    with op.batch_alter_table('user_account') as batch:
        batch.add_column(
            sa.Column('session_number', sa.Integer(), nullable=False, server_default='1')
        )
    op.drop_table('password_reset')
    op.drop_table('user_session')
