"""Wiring only: which step runs, in which order, when, and with which retries.

Each file holds one kind of DAG and makes one DAG for each project or model. Logic belongs in `include`: a task calls
one of its functions.
"""
