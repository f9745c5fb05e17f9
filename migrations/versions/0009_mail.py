"""Mail that waits to be sent, and who wants to be told what"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'mail',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('to_email', sa.String(length=254), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=True),
        sa.Column('subject', sa.String(length=300), nullable=False),
        sa.Column('body_token', sa.Text(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('next_attempt_at', sa.BigInteger(), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('last_error', sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_mail_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_mail')),
    )
    op.create_index(op.f('ix_mail_next_attempt_at'), 'mail', ['next_attempt_at'])
    op.create_table(
        'notice_choice',
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('kinds', sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_notice_choice_merchant_id_merchant')
        ),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_notice_choice_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('user_id', 'merchant_id', name=op.f('pk_notice_choice')),
    )


def downgrade():
    op.drop_table('notice_choice')
    op.drop_table('mail')
