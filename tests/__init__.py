"""What proves the project."""
