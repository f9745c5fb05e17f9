"""All tables"""

import sqlalchemy as sa
from alembic import op

revision = '0031'
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        'attempt',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('event_id', sa.String(length=255), nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=False),
        sa.Column('delivery_id', sa.String(length=40), nullable=False),
        sa.Column('number', sa.Integer(), nullable=False),
        sa.Column('trigger', sa.String(length=10), nullable=False),
        sa.Column('attempted_at', sa.BigInteger(), nullable=False),
        sa.Column('method', sa.String(length=5), nullable=False),
        sa.Column('uri', sa.Text(), nullable=False),
        sa.Column('status', sa.Integer(), nullable=True),
        sa.Column('error', sa.String(length=40), nullable=True),
        sa.Column('error_detail', sa.Text(), nullable=True),
        sa.Column('ok', sa.Boolean(), nullable=False),
        sa.Column('duration_us', sa.Integer(), nullable=False),
        sa.Column('dns_us', sa.Integer(), nullable=True),
        sa.Column('connect_us', sa.Integer(), nullable=True),
        sa.Column('tls_us', sa.Integer(), nullable=True),
        sa.Column('send_us', sa.Integer(), nullable=True),
        sa.Column('wait_us', sa.Integer(), nullable=True),
        sa.Column('download_us', sa.Integer(), nullable=True),
        sa.Column('sends', sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_attempt')),
    )
    op.create_index('ix_attempt_delivery', 'attempt', ['delivery_id', 'id'])
    op.create_index('ix_attempt_event', 'attempt', ['merchant_id', 'event_id', 'id'])
    op.create_index(
        'ix_attempt_failed',
        'attempt',
        ['merchant_id', 'ok', 'id'],
        sqlite_where=sa.text('ok = 0'),
        postgresql_where=sa.text('NOT ok'),
    )
    op.create_index('ix_attempt_merchant', 'attempt', ['merchant_id', 'id'])
    op.create_index('ix_attempt_webhook', 'attempt', ['webhook_id', 'id'])
    op.create_table(
        'attempt_count',
        sa.Column('merchant_id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('starts_at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=False),
        sa.Column('took', sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('successes', sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            'merchant_id', 'starts_at', 'webhook_id', 'took', name=op.f('pk_attempt_count')
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        'ix_attempt_count_webhook', 'attempt_count', ['merchant_id', 'webhook_id', 'starts_at']
    )
    op.create_table(
        'attempt_payload',
        sa.Column('attempt_id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('request_headers', sa.Text(), nullable=False),
        sa.Column('body_kind', sa.String(length=6), nullable=False),
        sa.Column('request_body', sa.LargeBinary(), nullable=True),
        sa.Column('response_headers', sa.Text(), nullable=True),
        sa.Column('response_body', sa.LargeBinary(), nullable=True),
        sa.Column('truncated', sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint('attempt_id', name=op.f('pk_attempt_payload')),
    )
    op.create_index('ix_attempt_payload_merchant', 'attempt_payload', ['merchant_id', 'attempt_id'])
    op.create_table(
        'audit_entry',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=True),
        sa.Column('actor', sa.String(length=300), nullable=False),
        sa.Column('action', sa.String(length=60), nullable=False),
        sa.Column('target', sa.String(length=300), nullable=False),
        sa.Column('detail', sa.JSON(), nullable=False),
        sa.Column('address', sa.String(length=45), nullable=True),
        sa.Column('number', sa.BigInteger(), nullable=True),
        sa.Column('hash', sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_entry')),
        sa.UniqueConstraint('number', name=op.f('uq_audit_entry_number')),
    )
    op.create_index('ix_audit_entry_action', 'audit_entry', ['action', 'at', 'id'])
    op.create_index('ix_audit_entry_merchant', 'audit_entry', ['merchant_id', 'at', 'id'])
    op.create_index(
        'ix_audit_entry_merchant_action', 'audit_entry', ['merchant_id', 'action', 'at', 'id']
    )
    op.create_index('ix_audit_entry_read', 'audit_entry', ['at', 'id'])
    op.create_index('ix_audit_entry_target', 'audit_entry', ['target', 'id'])
    op.create_table(
        'audit_head',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('number', sa.BigInteger(), nullable=False),
        sa.Column('hash', sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_head')),
    )
    op.create_table(
        'clean_up',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('token', sa.Integer(), nullable=False),
        sa.Column('moment', sa.BigInteger(), nullable=True),
        sa.Column('cursor', sa.JSON(), nullable=True),
        sa.Column('removed', sa.JSON(), nullable=False),
        sa.Column('work_us', sa.BigInteger(), nullable=False),
        sa.Column('began_at', sa.BigInteger(), nullable=False),
        sa.Column('worked_at', sa.BigInteger(), nullable=False),
        sa.Column('finished_at', sa.BigInteger(), nullable=True),
        sa.Column('warned_at', sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_clean_up')),
    )
    op.create_table(
        'clock_seen',
        sa.Column('boot', sa.String(length=40), nullable=False),
        sa.Column('ahead', sa.BigInteger(), nullable=False),
        sa.Column('seen_at', sa.BigInteger(), nullable=False),
        sa.Column('doubted_ahead', sa.BigInteger(), nullable=True),
        sa.Column('doubted_from', sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint('boot', name=op.f('pk_clock_seen')),
    )
    op.create_table(
        'counted_until',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('moment', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_counted_until')),
    )
    op.create_table(
        'delivery',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('event_id', sa.String(length=255), nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=False),
        sa.Column('state', sa.String(length=10), nullable=False),
        sa.Column('reason', sa.String(length=200), nullable=True),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('step', sa.Integer(), nullable=False),
        sa.Column('hurries', sa.Integer(), server_default='0', nullable=False),
        sa.Column('is_retry', sa.Boolean(), nullable=False),
        sa.Column('trigger', sa.String(length=10), nullable=False),
        sa.Column('next_attempt_at', sa.BigInteger(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('finished_at', sa.BigInteger(), nullable=True),
        sa.Column('object_key', sa.String(length=511), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_delivery')),
    )
    op.create_index('ix_delivery_created', 'delivery', ['created_at', 'id'])
    op.create_index(
        'ix_delivery_due',
        'delivery',
        ['webhook_id', 'is_retry', 'next_attempt_at'],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index('ix_delivery_event', 'delivery', ['merchant_id', 'event_id'])
    op.create_index(
        'ix_delivery_failed',
        'delivery',
        ['webhook_id', 'finished_at', 'id'],
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        'ix_delivery_object',
        'delivery',
        ['webhook_id', 'object_key', 'created_at'],
        sqlite_where=sa.text("state = 'pending' AND object_key IS NOT NULL"),
        postgresql_where=sa.text("state = 'pending' AND object_key IS NOT NULL"),
    )
    op.create_index('ix_delivery_webhook', 'delivery', ['webhook_id', 'created_at'])
    op.create_table(
        'event',
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('id', sa.String(length=255), nullable=False),
        sa.Column('type', sa.String(length=255), nullable=False),
        sa.Column('object_type', sa.String(length=255), nullable=False),
        sa.Column('object_id', sa.String(length=255), nullable=True),
        sa.Column('source_user_type', sa.String(length=255), nullable=True),
        sa.Column('source_user_id', sa.String(length=255), nullable=True),
        sa.Column('correlation_id', sa.String(length=255), nullable=True),
        sa.Column('occurred_at', sa.BigInteger(), nullable=False),
        sa.Column('received_at', sa.BigInteger(), nullable=False),
        sa.Column('fingerprint', sa.String(length=64), nullable=True),
        sa.Column('deliveries', sa.Integer(), nullable=False),
        sa.Column('schema_error', sa.Text(), nullable=True),
        sa.Column('is_test', sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint('merchant_id', 'id', name=op.f('pk_event')),
    )
    op.create_index(
        'ix_event_correlation',
        'event',
        ['merchant_id', 'correlation_id', 'received_at', 'id'],
        sqlite_where=sa.text('correlation_id IS NOT NULL'),
        postgresql_where=sa.text('correlation_id IS NOT NULL'),
    )
    op.create_index('ix_event_merchant_received', 'event', ['merchant_id', 'received_at', 'id'])
    op.create_index(
        'ix_event_object', 'event', ['merchant_id', 'object_id', 'received_at', 'id', 'object_type']
    )
    op.create_index('ix_event_received', 'event', ['received_at', 'merchant_id', 'id'])
    op.create_index('ix_event_type', 'event', ['merchant_id', 'type', 'received_at', 'id'])
    op.create_table(
        'event_count',
        sa.Column('merchant_id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('starts_at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('events', sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint('merchant_id', 'starts_at', name=op.f('pk_event_count')),
        sqlite_with_rowid=False,
    )
    op.create_table(
        'event_payload',
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('event_id', sa.String(length=255), nullable=False),
        sa.Column('head', sa.Text(), nullable=False),
        sa.Column('data', sa.Text(), nullable=True),
        sa.Column('previous', sa.Text(), nullable=True),
        sa.Column('received_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('merchant_id', 'event_id', name=op.f('pk_event_payload')),
    )
    op.create_index('ix_event_payload_merchant', 'event_payload', ['merchant_id', 'received_at'])
    op.create_index(
        'ix_event_payload_received', 'event_payload', ['received_at', 'merchant_id', 'event_id']
    )
    op.create_table(
        'installation',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('name', sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_installation')),
    )
    op.create_table(
        'lane',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('owner', sa.String(length=100), nullable=True),
        sa.Column('token', sa.BigInteger(), nullable=False),
        sa.Column('leased_until', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_lane')),
    )
    op.create_table(
        'measured_until',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('moment', sa.BigInteger(), nullable=False),
        sa.Column('token', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_measured_until')),
    )
    op.create_table(
        'merchant',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('slug', sa.String(length=63), nullable=False),
        sa.Column('name', sa.String(length=200), nullable=False),
        sa.Column('active', sa.Boolean(), nullable=False),
        sa.Column('activated_at', sa.BigInteger(), nullable=True),
        sa.Column('event_days', sa.Integer(), nullable=True),
        sa.Column('payload_days', sa.Integer(), nullable=True),
        sa.Column('storage_mb', sa.Integer(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('storage_told', sa.Integer(), server_default='0', nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_merchant')),
        sa.UniqueConstraint('slug', name=op.f('uq_merchant_slug')),
    )
    op.create_table(
        'operations_entry',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('kind', sa.String(length=40), nullable=False),
        sa.Column('message', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_operations_entry')),
    )
    op.create_index(op.f('ix_operations_entry_at'), 'operations_entry', ['at'])
    op.create_table(
        'sealed_word',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('word_token', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_sealed_word')),
    )
    op.create_table(
        'stored_bytes',
        sa.Column('merchant_id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('starts_at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('logs', sa.BigInteger(), nullable=False),
        sa.Column('payloads', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('merchant_id', 'starts_at', name=op.f('pk_stored_bytes')),
        sqlite_with_rowid=False,
    )
    op.create_index('ix_stored_bytes_starts_at', 'stored_bytes', ['starts_at'])
    op.create_table(
        'user_account',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('email', sa.String(length=254), nullable=False),
        sa.Column('name', sa.String(length=200), nullable=False),
        sa.Column('password_hash', sa.String(length=200), nullable=False),
        sa.Column('staff_role', sa.String(length=10), nullable=True),
        sa.Column('disabled_at', sa.BigInteger(), nullable=True),
        sa.Column('totp_token', sa.Text(), nullable=True),
        sa.Column('totp_step', sa.BigInteger(), nullable=True),
        sa.Column('passkey_moment', sa.BigInteger(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_user_account')),
        sa.UniqueConstraint('email', name=op.f('uq_user_account_email')),
    )
    op.create_table(
        'api_key',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('name', sa.String(length=200), nullable=False),
        sa.Column('prefix', sa.String(length=12), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('scope', sa.String(length=5), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('last_used_at', sa.BigInteger(), nullable=True),
        sa.Column('revoked_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_api_key_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_api_key')),
        sa.UniqueConstraint('digest', name=op.f('uq_api_key_digest')),
    )
    op.create_index(op.f('ix_api_key_merchant_id'), 'api_key', ['merchant_id'])
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
    op.create_index('ix_attempt_share_attempt', 'attempt_share', ['merchant_id', 'attempt_id'])
    op.create_table(
        'idempotency_key',
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('key', sa.String(length=255), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('status', sa.Integer(), nullable=True),
        sa.Column('answer_token', sa.Text(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_idempotency_key_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('merchant_id', 'key', name=op.f('pk_idempotency_key')),
    )
    op.create_index(op.f('ix_idempotency_key_created_at'), 'idempotency_key', ['created_at'])
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
    op.create_index('ix_inspected_request_newest', 'inspected_request', ['merchant_id', 'id'])
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
        'invitation',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('email', sa.String(length=254), nullable=False),
        sa.Column('role', sa.String(length=10), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.Column('created_by', sa.String(length=300), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_invitation_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_invitation')),
        sa.UniqueConstraint('digest', name=op.f('uq_invitation_digest')),
        sa.UniqueConstraint('merchant_id', 'email', name=op.f('uq_invitation_merchant_id_email')),
    )
    op.create_table(
        'mail',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('to_email', sa.String(length=254), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=True),
        sa.Column('kind', sa.String(length=40), nullable=True),
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
    op.create_index('ix_mail_merchant', 'mail', ['merchant_id', 'kind'])
    op.create_index(op.f('ix_mail_next_attempt_at'), 'mail', ['next_attempt_at'])
    op.create_table(
        'membership',
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('role', sa.String(length=10), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_membership_merchant_id_merchant')
        ),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_membership_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('user_id', 'merchant_id', name=op.f('pk_membership')),
    )
    op.create_index(op.f('ix_membership_merchant_id'), 'membership', ['merchant_id'])
    op.create_table(
        'notice',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=True),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('kind', sa.String(length=40), nullable=False),
        sa.Column('message', sa.Text(), nullable=False),
        sa.Column('dismissed_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_notice_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_notice')),
    )
    op.create_index('ix_notice_merchant', 'notice', ['merchant_id', 'dismissed_at', 'at'])
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
    op.create_table(
        'own_event_type',
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('name', sa.String(length=255), nullable=False),
        sa.Column('description', sa.Text(), nullable=False),
        sa.Column('schema', sa.JSON(), nullable=True),
        sa.Column('example', sa.Text(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_own_event_type_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('merchant_id', 'name', name=op.f('pk_own_event_type')),
    )
    op.create_table(
        'passkey',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('name', sa.String(length=100), nullable=False),
        sa.Column('credential', sa.LargeBinary(length=1023), nullable=False),
        sa.Column('public_key', sa.LargeBinary(), nullable=False),
        sa.Column('sign_count', sa.BigInteger(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('used_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_passkey_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_passkey')),
        sa.UniqueConstraint('credential', name=op.f('uq_passkey_credential')),
    )
    op.create_index(op.f('ix_passkey_user_id'), 'passkey', ['user_id'])
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
    op.create_index(op.f('ix_password_reset_expires_at'), 'password_reset', ['expires_at'])
    op.create_index(op.f('ix_password_reset_user_id'), 'password_reset', ['user_id'])
    op.create_table(
        'recovery',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('webhook_id', sa.String(length=40), nullable=True),
        sa.Column('action', sa.String(length=10), nullable=False),
        sa.Column('states', sa.JSON(), nullable=False),
        sa.Column('filters', sa.JSON(), nullable=False),
        sa.Column('since', sa.BigInteger(), nullable=True),
        sa.Column('before', sa.BigInteger(), nullable=False),
        sa.Column('state', sa.String(length=10), nullable=False),
        sa.Column('total', sa.Integer(), nullable=True),
        sa.Column('done', sa.Integer(), nullable=False),
        sa.Column('cursor', sa.JSON(), nullable=True),
        sa.Column('token', sa.Integer(), nullable=False),
        sa.Column('created_by', sa.String(length=300), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('worked_at', sa.BigInteger(), nullable=False),
        sa.Column('finished_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_recovery_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_recovery')),
    )
    op.create_index('ix_recovery_merchant', 'recovery', ['merchant_id', 'id'])
    op.create_index(
        'ix_recovery_running',
        'recovery',
        ['worked_at'],
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        'recovery_code',
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('digest', sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_recovery_code_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('user_id', 'digest', name=op.f('pk_recovery_code')),
    )
    op.create_table(
        'saved_filter',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('user_id', sa.Integer(), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('log', sa.String(length=10), nullable=False),
        sa.Column('name', sa.String(length=60), nullable=False),
        sa.Column('filters', sa.JSON(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_saved_filter_merchant_id_merchant')
        ),
        sa.ForeignKeyConstraint(
            ['user_id'], ['user_account.id'], name=op.f('fk_saved_filter_user_id_user_account')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_saved_filter')),
    )
    op.create_index(
        'ix_saved_filter_name',
        'saved_filter',
        ['user_id', 'merchant_id', 'log', 'name'],
        unique=True,
    )
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
    op.create_index(op.f('ix_user_session_created_at'), 'user_session', ['created_at'])
    op.create_index(op.f('ix_user_session_user_id'), 'user_session', ['user_id'])
    op.create_table(
        'webhook',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('merchant_id', sa.Integer(), nullable=False),
        sa.Column('lane', sa.Integer(), nullable=False),
        sa.Column('description', sa.String(length=500), nullable=False),
        sa.Column('url', sa.String(length=2048), nullable=False),
        sa.Column('method', sa.String(length=5), nullable=False),
        sa.Column('query_params', sa.JSON(), nullable=False),
        sa.Column('headers', sa.JSON(), nullable=False),
        sa.Column('auth', sa.JSON(none_as_null=True), nullable=True),
        sa.Column('events', sa.JSON(), nullable=False),
        sa.Column('include_object_record', sa.Boolean(), nullable=False),
        sa.Column('only_sources', sa.JSON(), nullable=False),
        sa.Column('except_sources', sa.JSON(), nullable=False),
        sa.Column('body_template', sa.Text(), nullable=True),
        sa.Column('retry_schedule', sa.JSON(), nullable=True),
        sa.Column('timeout_seconds', sa.Integer(), nullable=True),
        sa.Column('max_in_flight', sa.Integer(), nullable=True),
        sa.Column('rate_per_second', sa.Integer(), nullable=True),
        sa.Column('ordered', sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column('sign_ed25519', sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column('secret_token', sa.Text(), nullable=False),
        sa.Column('old_secrets', sa.JSON(), server_default='[]', nullable=False),
        sa.Column('enabled', sa.Boolean(), nullable=False),
        sa.Column('disabled_at', sa.BigInteger(), nullable=True),
        sa.Column('disabled_reason', sa.String(length=500), nullable=True),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.Column('failing_since', sa.BigInteger(), nullable=True),
        sa.Column('away', sa.Integer(), server_default='0', nullable=False),
        sa.Column('unreachable', sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column('held_at', sa.BigInteger(), nullable=True),
        sa.Column('next_probe_at', sa.BigInteger(), nullable=True),
        sa.Column('catch_up_from', sa.BigInteger(), nullable=True),
        sa.Column('certificate_ends_at', sa.BigInteger(), nullable=True),
        sa.Column('certificate_checked_at', sa.BigInteger(), nullable=True),
        sa.Column('client_certificate_ends_at', sa.BigInteger(), nullable=True),
        sa.Column('version', sa.Integer(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('updated_at', sa.BigInteger(), nullable=False),
        sa.Column('deleted_at', sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['merchant.id'], name=op.f('fk_webhook_merchant_id_merchant')
        ),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook')),
    )
    op.create_index(op.f('ix_webhook_lane'), 'webhook', ['lane'])
    op.create_index('ix_webhook_merchant', 'webhook', ['merchant_id', 'created_at'])
    op.execute("INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '" + '0' * 64 + "')")


def downgrade():
    for name in (
        'webhook',
        'user_session',
        'saved_filter',
        'recovery_code',
        'recovery',
        'password_reset',
        'passkey',
        'own_event_type',
        'notice_choice',
        'notice',
        'membership',
        'mail',
        'invitation',
        'inspector',
        'inspected_request',
        'idempotency_key',
        'attempt_share',
        'api_key',
        'user_account',
        'stored_bytes',
        'sealed_word',
        'operations_entry',
        'merchant',
        'measured_until',
        'lane',
        'installation',
        'event_payload',
        'event_count',
        'event',
        'delivery',
        'counted_until',
        'clock_seen',
        'clean_up',
        'audit_head',
        'audit_entry',
        'attempt_payload',
        'attempt_count',
        'attempt',
    ):
        op.drop_table(name)
