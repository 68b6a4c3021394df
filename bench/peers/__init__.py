"""The same night as a Dagster job and as a Prefect flow, each in an environment of its own (`docs/speed.md`)."""
