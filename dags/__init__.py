"""Wiring only: which step, in which order, when, with which retries. A file a kind of DAG, a DAG a project or model."""
