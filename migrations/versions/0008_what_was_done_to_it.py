"""What was done to one thing"""

from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade():
    op.create_index('ix_audit_entry_target', 'audit_entry', ['target', 'id'], unique=False)


def downgrade():
    op.drop_index('ix_audit_entry_target', table_name='audit_entry')
