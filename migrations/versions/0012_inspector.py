"""The inspector"""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'inspector',
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('token', sa.String(length=43), nullable=False),
        sa.Column('answer', sa.String(length=10), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_inspector_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('merchant_id', name=op.f('pk_inspector')),
        sa.UniqueConstraint('token', name=op.f('uq_inspector_token')),
    )
    op.create_table(
        'inspected_request',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('received_at', sa.BigInteger(), nullable=False),
        sa.Column('method', sa.String(length=10), nullable=False),
        sa.Column('uri', sa.Text(), nullable=False),
        sa.Column('headers', sa.Text(), nullable=False),
        sa.Column('body', sa.LargeBinary(), nullable=False),
        sa.Column('size', sa.Integer(), nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=True),
        sa.Column('status', sa.Integer(), nullable=False),
        sa.Column('took_us', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_inspected_request_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_inspected_request')),
    )
    op.create_index(
        'ix_inspected_request_newest', 'inspected_request', ['merchant_id', 'id'], unique=False
    )


def downgrade():
    op.drop_index('ix_inspected_request_newest', table_name='inspected_request')
    op.drop_table('inspected_request')
    op.drop_table('inspector')
