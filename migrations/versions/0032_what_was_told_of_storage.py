"""What a merchant's people were told of what it has stored"""

import json

import sqlalchemy as sa
from alembic import op

revision = '0032'
down_revision = '0031'
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table('merchant') as batch:
        batch.add_column(
            sa.Column('storage_told', sa.Integer(), server_default='0', nullable=False)
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
    with op.batch_alter_table('merchant') as batch:
        batch.drop_column('storage_told')
