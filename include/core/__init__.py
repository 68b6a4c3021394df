"""Records, days, point-in-time logic, errors, names, columns and settings for all layers.

Everything here is pure: it reads and writes nothing. It imports no other layer.
"""
