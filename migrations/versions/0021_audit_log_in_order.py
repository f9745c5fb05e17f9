"""The audit log has an index in the order of its pages for each of its filters"""

from alembic import op

revision = '0021'
down_revision = '0020'
branch_labels = None
depends_on = None

INDEXES = {
    'ix_audit_entry_read': ['at', 'id'],
    'ix_audit_entry_merchant': ['merchant_id', 'at', 'id'],
    'ix_audit_entry_action': ['action', 'at', 'id'],
    'ix_audit_entry_merchant_action': ['merchant_id', 'action', 'at', 'id'],
}


def upgrade():
    for name, columns in INDEXES.items():
        op.create_index(name, 'audit_entry', columns)
    op.drop_index('ix_audit_entry_at', 'audit_entry')
    op.drop_index('ix_audit_entry_merchant_id', 'audit_entry')


def downgrade():
    op.create_index('ix_audit_entry_at', 'audit_entry', ['at'])
    op.create_index('ix_audit_entry_merchant_id', 'audit_entry', ['merchant_id'])
    for name in INDEXES:
        op.drop_index(name, 'audit_entry')
