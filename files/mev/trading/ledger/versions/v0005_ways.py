"""By which way each transaction left: until now by the chain's own nodes, where everybody may see it."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Every transaction that is there left by the public way."""
    op.add_column("submissions", Column("way", Text, nullable=False, server_default="public"))


def downgrade() -> None:
    """The copy that was kept before the migration is the way back."""
    raise NotImplementedError("put back the copy that was kept before the migration")
