"""Inputs of suppliers, and one table with the verdict on each; `tests/unit/test_corpus.py` says how to add one."""
