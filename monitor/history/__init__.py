"""Training and backfill over what was."""
