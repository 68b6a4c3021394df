"""Expectations on deliveries, and what may be shown of rows that break them.

Everything here is pure: tables and verdicts belong in `include.steps`.
"""
