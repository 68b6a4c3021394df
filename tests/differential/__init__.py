"""Differential tests: what the code makes of an example project now, against a reference frozen in this repository.

`frozen.py` freezes, compares and prints. The references are in `tests/<project>/reference`, so that a project and what
is expected of it go together. `make accept PROJECT=flights` rewrites one from the local stack after `make run`.
"""
