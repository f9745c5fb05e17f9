"""Counts of all webhooks of a merchant together"""

from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade():
    op.drop_index('ix_attempt_count_webhook', table_name='attempt_count')
    op.create_index(
        'ix_attempt_count_webhook', 'attempt_count', ['merchant_id', 'webhook_id', 'starts_at'],
        unique=False,
    )
    # The logs are counted anew, with these.
    for table in ('attempt_count', 'event_count', 'counted_until'):
        op.execute(f'DELETE FROM {table}')


def downgrade():
    op.execute("DELETE FROM attempt_count WHERE webhook_id = ''")
    op.drop_index('ix_attempt_count_webhook', table_name='attempt_count')
    op.create_index(
        'ix_attempt_count_webhook', 'attempt_count', ['webhook_id', 'starts_at'], unique=False
    )
