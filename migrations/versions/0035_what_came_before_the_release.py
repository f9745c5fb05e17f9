"""What the tables lack that were made before the first release"""

import json

import sqlalchemy as sa
from alembic import op

revision = '0035'
down_revision = '0031'
branch_labels = None
depends_on = None


def upgrade():
    # Tables that stood at 0031 to 0034 came here with some of this, new ones with all.
    found = sa.inspect(op.get_bind())

    def has(table, column):
        return column in {one['name'] for one in found.get_columns(table)}

    if not has('merchant', 'storage_told'):
        _add_what_was_told_of_storage()
    if not has('mail', 'kind'):
        op.add_column('mail', sa.Column('kind', sa.String(length=40), nullable=True))
        op.create_index('ix_mail_merchant', 'mail', ['merchant_id', 'kind'])
    if not found.has_table('clock_seen'):
        op.create_table(
            'clock_seen',
            sa.Column('boot', sa.String(length=40), primary_key=True),
            sa.Column('ahead', sa.BigInteger(), nullable=False),
            sa.Column('seen_at', sa.BigInteger(), nullable=False),
            sa.Column('doubted_ahead', sa.BigInteger(), nullable=True),
            sa.Column('doubted_from', sa.BigInteger(), nullable=True),
        )
    for table in ('clean_up', 'recovery'):
        if has(table, 'place'):
            # Not as alter_column(), for which Alembic makes an SQLite table anew.
            op.execute(f'ALTER TABLE {table} RENAME COLUMN place TO "cursor"')


def _add_what_was_told_of_storage():
    op.add_column(
        'merchant', sa.Column('storage_told', sa.Integer(), server_default='0', nullable=False)
    )
    # Owners who have chosen what they are told had no say about this yet.
    connection = op.get_bind()
    choices = connection.execute(sa.text(
        "SELECT c.user_id, c.merchant_id, c.kinds FROM notice_choice c JOIN membership m "
        "ON m.user_id = c.user_id AND m.merchant_id = c.merchant_id WHERE m.role = 'owner'"
    )).all()
    for user_id, merchant_id, kinds in choices:
        kinds = json.loads(kinds) if isinstance(kinds, str) else kinds
        if not kinds:
            # Who wants no mail wants none.
            continue
        connection.execute(
            sa.text(
                "UPDATE notice_choice SET kinds = :kinds "
                "WHERE user_id = :user_id AND merchant_id = :merchant_id"
            ),
            {
                "kinds": json.dumps([*kinds, "storage"]), "user_id": user_id,
                "merchant_id": merchant_id,
            },
        )


def downgrade():
    # 0031 makes the very same tables.
    pass
