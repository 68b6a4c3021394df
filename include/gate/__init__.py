"""What a version must show before it may become champion. Pure: no rows are read or written.

A check is a class in `checks`. Measuring the rows of a version belongs in `include/steps/gate.py`.
"""
