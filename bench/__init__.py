"""Benchmarks: compare the product with goals and with a plain script (`make bench-backfill`, `make bench-spark`)."""
