"""The audit log is chained, and knows from where"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'audit_head',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('number', sa.BigInteger(), nullable=False),
        sa.Column('hash', sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_head')),
    )
    with op.batch_alter_table('audit_entry') as batch:
        batch.add_column(sa.Column('address', sa.String(length=45), nullable=True))
        batch.add_column(sa.Column('number', sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column('hash', sa.String(length=64), nullable=True))
        batch.create_unique_constraint(op.f('uq_audit_entry_number'), ['number'])
    _chain_what_is_there()


def _chain_what_is_there():
    """As portal.audit.chain did when this was written."""
    entry = sa.table(
        'audit_entry', sa.column('id'), sa.column('at'), sa.column('merchant_id'),
        sa.column('actor'), sa.column('action'), sa.column('target'),
        sa.column('detail', sa.JSON), sa.column('number'), sa.column('hash'),
    )
    connection = op.get_bind()
    number, previous = 0, '0' * 64
    for row in connection.execute(sa.select(entry).order_by(entry.c.id)).all():
        number += 1
        content = [
            number, row.at, row.merchant_id, row.actor, row.action, row.target, row.detail, None,
        ]
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(',', ':'))
        previous = hashlib.sha256(f'{previous}\n{text}'.encode()).hexdigest()
        connection.execute(
            sa.update(entry).where(entry.c.id == row.id).values(number=number, hash=previous)
        )
    head = sa.table('audit_head', sa.column('id'), sa.column('number'), sa.column('hash'))
    connection.execute(sa.insert(head).values(id=1, number=number, hash=previous))


def downgrade():
    with op.batch_alter_table('audit_entry') as batch:
        batch.drop_constraint(op.f('uq_audit_entry_number'), type_='unique')
        batch.drop_column('hash')
        batch.drop_column('number')
        batch.drop_column('address')
    op.drop_table('audit_head')
