"""Every signing secret that was replaced signs until its promised end"""

import sqlalchemy as sa
from alembic import op

revision = '0027'
down_revision = '0026'
branch_labels = None
depends_on = None

webhook = sa.table(
    'webhook', sa.column('id', sa.String), sa.column('old_secrets', sa.JSON),
    sa.column('old_secret_token', sa.Text), sa.column('old_secret_until', sa.BigInteger),
)


def upgrade():
    op.add_column(
        'webhook', sa.Column('old_secrets', sa.JSON(), nullable=False, server_default='[]')
    )
    connection = op.get_bind()
    kept = connection.execute(
        sa.select(webhook.c.id, webhook.c.old_secret_token, webhook.c.old_secret_until)
        .where(webhook.c.old_secret_token.is_not(None))
    ).all()
    for row in kept:
        old = {'token': row.old_secret_token, 'until': row.old_secret_until or 0}
        connection.execute(
            sa.update(webhook).where(webhook.c.id == row.id).values(old_secrets=[old])
        )
    with op.batch_alter_table('webhook') as batch:
        batch.drop_column('old_secret_token')
        batch.drop_column('old_secret_until')


def downgrade():
    op.add_column('webhook', sa.Column('old_secret_token', sa.Text(), nullable=True))
    op.add_column('webhook', sa.Column('old_secret_until', sa.BigInteger(), nullable=True))
    connection = op.get_bind()
    for row in connection.execute(sa.select(webhook.c.id, webhook.c.old_secrets)).all():
        for old in row.old_secrets[:1]:
            connection.execute(sa.update(webhook).where(webhook.c.id == row.id).values(
                old_secret_token=old['token'], old_secret_until=old['until']
            ))
    with op.batch_alter_table('webhook') as batch:
        batch.drop_column('old_secrets')
