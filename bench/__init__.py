"""How fast it is, against goals and against a script without any of it (`make bench-backfill`)."""
