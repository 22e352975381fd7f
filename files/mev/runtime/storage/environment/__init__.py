"""What Alembic runs for each command."""
